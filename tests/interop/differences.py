"""Every intended difference between Debian's gearmand and our server, with its reason.

`-` is a line of gearmand's transcript that ours lacks, `+` a line of ours that gearmand's lacks. docs/protocol.md
tells users the same, by the same words.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    #: What gearmand does, as docs/protocol.md puts it.
    gearmand: str
    #: Why we do not.
    reason: str
    #: Script -> how the transcripts differ.
    scripts: dict[str, str]


DIFFERENCES = [
    Difference(
        "a foreground client that joined a background job and left cancels it",
        "a background job was promised to run",
        {
            "background joined by a client that leaves": """
                - w < NO_JOB
                + w < JOB_ASSIGN_UNIQ $1|f|u|x
            """,
            "foreground joined by background, client leaves": """
                - w < NO_JOB
                + w < JOB_ASSIGN_UNIQ $1|f|u|x
            """,
        },
    ),
    Difference(
        "the function announced last wins over priorities and over other functions' jobs",
        "a priority that counts for one function only starves urgent jobs; 2.0.0 does as we do",
        {
            "priorities over functions": """
                + w < JOB_ASSIGN $1|f|high
                + w > GRAB_JOB
                - w > GRAB_JOB
                - w < JOB_ASSIGN $1|f|high
            """,
            "functions take turns": """
                + w < JOB_ASSIGN_UNIQ $1|f|1|
                + w > GRAB_JOB_UNIQ
                + w < JOB_ASSIGN_UNIQ $2|f|2|
                + w > GRAB_JOB_UNIQ
                - w > GRAB_JOB_UNIQ
                - w < JOB_ASSIGN_UNIQ $1|f|1|
                - w > GRAB_JOB_UNIQ
                - w < JOB_ASSIGN_UNIQ $2|f|2|
            """,
        },
    ),
    Difference(
        "a job that comes back goes behind all others",
        "it is the oldest",
        {
            "a job that comes back goes to its old place": """
                + v < JOB_ASSIGN $1|f|a
                + v > GRAB_JOB
                - v > GRAB_JOB
                - v < JOB_ASSIGN $1|f|a
            """,
        },
    ),
    Difference(
        "one job wakes every sleeper of its function",
        "a herd for each job; one NOOP for each job is enough",
        {
            "two sleepers, one job": """
                - v < NOOP
            """,
        },
    ),
    Difference(
        "a job that is due wakes nobody",
        "its worker would sleep on",
        {
            "a job for the future": """
                + w < NOOP
            """,
        },
    ),
    Difference(
        "SUBMIT_JOB_SCHED is refused",
        "it is in the protocol, and useful",
        {
            "a job with a schedule": """
                - c < ERROR INVALID_COMMAND|Command not expected
                + c < JOB_CREATED $1
            """,
        },
    ),
    Difference(
        "a time-out (CAN_DO_TIMEOUT) requeues the job and tells nobody",
        "the protocol document says: failed, and clients are notified",
        {
            "time-out of a foreground job": """
                + c < WORK_FAIL $1
                - c < STATUS_RES $1|1|0|0|0
                + c < STATUS_RES $1|0|0|0|0
                - c < 'f\\t1\\t0\\t1\\n'
                + c < 'f\\t0\\t0\\t1\\n'
            """,
            "time-out of a background job": """
                - c < STATUS_RES $1|1|0|0|0
                + c < STATUS_RES $1|0|0|0|0
                - c < 'f\\t1\\t0\\t1\\n'
                + c < 'f\\t0\\t0\\t1\\n'
                - v < JOB_ASSIGN $1|f|x
                + v < NO_JOB
            """,
        },
    ),
    Difference(
        "CANT_DO and RESET_ABILITIES take running jobs away from their worker",
        "a worker that stops gracefully finishes its job; taken away, the job would run twice",
        {
            "worker takes a function back with its job in its hands": """
                - c < 'f\\t1\\t0\\t0\\n'
                + c < 'f\\t1\\t1\\t0\\n'
                - w < ERROR JOB_NOT_FOUND|Job given in work result not found
                + c < WORK_COMPLETE $1|r
            """,
            "worker resets with a job in its hands": """
                - w < ERROR JOB_NOT_FOUND|Job given in work result not found
                + c < WORK_COMPLETE $1|r
            """,
        },
    ),
    Difference(
        "a worker that announces a function twice is counted twice",
        "`status` counts workers",
        {
            "a function announced twice counts once": """
                - c < 'f\\t0\\t0\\t2\\n'
                + c < 'f\\t0\\t0\\t1\\n'
            """,
        },
    ),
    Difference(
        "a unique of 64 bytes is cut to 63",
        "two jobs became one",
        {
            "a unique of 64 bytes": """
                - w < JOB_ASSIGN_UNIQ $1|f|123456789012345678901234567890123456789012345678901234567890123||x
                + w < JOB_ASSIGN_UNIQ $1|f|1234567890123456789012345678901234567890123456789012345678901234|x
            """,
        },
    ),
    Difference(
        "WORK_FAIL made of a WORK_EXCEPTION, or of a handle that ends with NUL, carries a stray NUL",
        "the handle is the one of JOB_CREATED",
        {
            "exception without the option arrives as failure": """
                - c < WORK_FAIL $1|
                + c < WORK_FAIL $1
            """,
            "failure whose handle ends with NUL": """
                - c < WORK_FAIL $1|
                + c < WORK_FAIL $1
            """,
        },
    ),
    Difference(
        "WORK_FAIL after WORK_EXCEPTION for the same job is answered ERROR `JOB_NOT_FOUND`",
        "the workers of Perl and abraxas send both, and end at the ERROR",
        {
            "exception with the option": """
                - w < ERROR JOB_NOT_FOUND|Job given in work result not found
            """,
        },
    ),
    Difference(
        "WORK_COMPLETE, _DATA, _WARNING and _EXCEPTION without data and its separator close the worker's connection",
        "taken as empty data; the job would run again",
        {
            "result without its separator": """
                - w closed
                + c < WORK_COMPLETE $1|
            """,
            "data without its separator": """
                - w closed
                + c < WORK_DATA $1|
                + c < WORK_WARNING $1|
                + c < WORK_FAIL $1
            """,
        },
    ),
    Difference(
        "WORK_STATUS and CAN_DO_TIMEOUT with too few arguments leave the connection without any further answer",
        "it is closed, as for every other packet with too few",
        {
            "status with too few arguments": """
                - w stuck
                + w closed
            """,
            "time-out without a number": """
                - w stuck
                + w closed
                - w stuck
            """,
        },
    ),
    Difference(
        "WORK_FAIL with a handle above 64 bytes is answered `ARGUMENT_TOO_LARGE`",
        "it is a job not found, as in every other report",
        {
            "a long report handle": (
                "- w < ERROR ARGUMENT_TOO_LARGE|Error occurred due to GEARMAND_JOB_HANDLE_SIZE being too small "
                "from snprintf\n+ w < ERROR JOB_NOT_FOUND|Job given in work result not found"
            ),
        },
    ),
    Difference(
        "a function may have an empty name",
        "a client's mistake; nobody would look for its jobs",
        {
            "submit with an empty function": """
                - c < JOB_CREATED $1
                + c < ERROR INVALID_COMMAND|Function name is empty
                - c < '\\t1\\t0\\t0\\n'
            """,
            "announcing an empty function": """
                + w < ERROR INVALID_COMMAND|Function name is empty
                - c < '\\t0\\t0\\t1\\n'
            """,
        },
    ),
    Difference(
        "a function name may have any length",
        "above 512 bytes, the limit of gearmand's own client library, stores could not index it",
        {
            "a function name beyond the limit": """
                - c < JOB_CREATED $1
                + c < ERROR ARGUMENT_TOO_LARGE|Function value too large
            """,
        },
    ),
    Difference(
        "a cancelled job is counted and known until a worker would have taken it",
        "it is gone",
        {
            "cancel a queued background job": """
                - c < STATUS_RES $1|1|0|0|0
                + c < STATUS_RES $1|0|0|0|0
            """,
            "cancel a queued foreground job": """
                - d < 'f\\t1\\t0\\t0\\n'
                + d < 'f\\t0\\t0\\t0\\n'
            """,
        },
    ),
    Difference(
        "the result of a job cancelled while it runs reaches the client after its WORK_FAIL",
        "a job ends once; the worker's report is JOB_NOT_FOUND",
        {
            "cancel a running job": """
                - c < WORK_COMPLETE $1|r
                + w < ERROR JOB_NOT_FOUND|Job given in work result not found
            """,
        },
    ),
    Difference(
        "`create function` ended by a bare LF creates the name without its last letter",
        "",
        {
            "create function with a bare line feed": """
                - c < 'fo\\t0\\t0\\t0\\n'
                + c < 'foo\\t0\\t0\\t0\\n'
            """,
        },
    ),
    Difference(
        "`drop function` drops a function that has queued jobs, and they never run",
        "it is refused, as with workers",
        {
            "drop function with a job": """
                - c < 'OK\\r\\n'
                + c < 'ERR there are still connected workers or executing clients\\r\\n'
                - w < NO_JOB
                + w < JOB_ASSIGN_UNIQ $1|f|u|x
            """,
        },
    ),
    Difference(
        "`maxqueue` of a function not known yet answers OK and does nothing",
        "OK means it holds",
        {
            "maxqueue of a function not known yet": """
                - c < JOB_CREATED $2
                + c < ERROR QUEUE_ERROR|Job queue is full
            """,
        },
    ),
]
