"""The parts of our client and worker that need no socket: which answer is whose, and when to grab or sleep."""

from __future__ import annotations

import asyncio

import pytest

from syncbridge.dispatch import AcceptanceUnknown, JobFailed, JobRefused, ResultUnknown, Server, Task
from syncbridge.dispatch import packets as p
from syncbridge.dispatch.peers.conversation import Conversation
from syncbridge.dispatch.peers.grabbing import Grabbing
from syncbridge.errors import PermanentError, ProtocolError

SERVER = Server("db1")
GRAB = p.request(p.GRAB_JOB_ALL)


def new_answer() -> asyncio.Future[bytes]:
    return asyncio.get_running_loop().create_future()


def submitted(conversation: Conversation) -> tuple[Task, asyncio.Future[bytes]]:
    task, answer = Task(), new_answer()
    conversation.expect(p.JOB_CREATED, answer, task)
    return task, answer


async def test_answers_come_in_the_order_of_requests() -> None:
    conversation = Conversation(SERVER)
    kinds = [p.JOB_CREATED, p.STATUS_RES, p.JOB_CREATED, p.ECHO_RES, p.JOB_CREATED]
    answers = [new_answer() for _ in kinds]
    for kind, answer in zip(kinds, answers, strict=True):
        conversation.expect(kind, answer)
    conversation.receive([(p.JOB_CREATED, b"a"), (p.STATUS_RES, b"b"), (p.ERROR, b"QUEUE_ERROR\0Job queue is full")])
    conversation.receive([(p.ECHO_RES, b"c"), (p.ERROR, b"ARGUMENT_TOO_LARGE\0name")])
    assert [answer.result() for answer in (answers[0], answers[1], answers[3])] == [b"a", b"b", b"c"]
    with pytest.raises(JobRefused, match="Job queue is full"):
        answers[2].result()
    with pytest.raises(PermanentError, match="ARGUMENT_TOO_LARGE: name"):
        answers[4].result()
    assert not conversation.waiting


async def test_an_answer_that_fits_no_request_is_an_error() -> None:
    conversation = Conversation(SERVER)
    with pytest.raises(ProtocolError, match="without a request"):
        conversation.receive([(p.ECHO_RES, b"")])
    conversation.expect(p.JOB_CREATED, new_answer())
    with pytest.raises(ProtocolError, match="STATUS_RES where JOB_CREATED was due"):
        conversation.receive([(p.STATUS_RES, b"")])


async def test_a_report_may_overtake_the_answer_to_its_submit() -> None:
    conversation = Conversation(SERVER)
    background = new_answer()
    conversation.expect(p.JOB_CREATED, background)
    task, _ = submitted(conversation)
    conversation.receive([(p.WORK_DATA, b"h2\0half"), (p.WORK_COMPLETE, b"h2\0all"), (p.JOB_CREATED, b"h1")])
    assert not task.done
    conversation.receive([(p.JOB_CREATED, b"h2")])
    assert [update.data async for update in task] == [b"half"]
    assert await task == b"all"
    assert task.handle.handle == b"h2"


async def test_every_copy_of_a_report_goes_to_another_of_the_joined() -> None:
    conversation = Conversation(SERVER)
    tasks = [submitted(conversation)[0] for _ in range(2)]
    conversation.receive([(p.JOB_CREATED, b"h"), (p.JOB_CREATED, b"h")])
    conversation.receive([(p.WORK_DATA, b"h\0x")] * 2 + [(p.WORK_STATUS, b"h\x001\x002")] * 2)
    conversation.receive([(p.WORK_FAIL, b"h\0")] * 2)  # with the NUL that gearmand adds
    for task in tasks:
        assert [update.kind async for update in task] == ["data", "status"]
        assert task.progress == (1, 2)
        with pytest.raises(JobFailed):
            await task
    conversation.receive([(p.WORK_COMPLETE, b"h\0late")])
    assert not conversation.waiting


async def test_a_given_up_wait_leaves_the_order_as_it_is() -> None:
    conversation = Conversation(SERVER)
    answers = [new_answer() for _ in range(2)]
    for answer in answers:
        conversation.expect(p.JOB_CREATED, answer)
    answers[0].cancel()
    conversation.receive([(p.JOB_CREATED, b"h1"), (p.JOB_CREATED, b"h2")])
    assert answers[1].result() == b"h2"


async def test_a_lost_connection_tells_everybody_what_is_unknown() -> None:
    conversation = Conversation(SERVER)
    running, _ = submitted(conversation)
    conversation.receive([(p.JOB_CREATED, b"h")])
    _, answer = submitted(conversation)
    conversation.end(ConnectionResetError("gone"))
    with pytest.raises(AcceptanceUnknown, match="db1:4730 is lost: gone"):
        answer.result()
    with pytest.raises(ResultUnknown, match="db1:4730 is lost: gone"):
        await running


@pytest.mark.parametrize(("text", "value"), [(b"3", 3), (b"2.5", 2.5), (b"many", 0), (b"", 0)])
async def test_progress_may_be_anything(text: bytes, value: float) -> None:
    task = Task()
    task.report(p.WORK_STATUS, text + b"\0" + text)
    assert task.progress == (value, value)


def test_grabs_grow_with_the_jobs_and_end_in_sleep() -> None:
    grabbing = Grabbing(GRAB)
    assert grabbing.ask(1, room=4) == GRAB
    grabbing.assigned()
    assert grabbing.ask(2, room=3) == GRAB * 2
    grabbing.assigned()
    assert grabbing.ask(2, room=1) == GRAB
    assert grabbing.ask(2, room=0) == b""
    assert grabbing.sleep() == b""
    grabbing.no_job()
    assert grabbing.ask(1, room=1) == b""  # there was nothing a moment ago
    assert grabbing.sleep() == b""  # a grab is out
    grabbing.no_job()
    assert grabbing.sleep() == p.request(p.PRE_SLEEP)
    assert grabbing.sleep() == b""
    grabbing.woken()
    assert grabbing.ask(1, room=2) == GRAB
