"""Dispatch: the durable job server between capture and sinks, and its clients.

Bytes take one way through it:

    server.py      sockets, one event loop, one commit thread
      session.py   one connection: packets in, calls on the core, packets out (no socket); admin.py: its text commands
        packets.py the Gearman packets as bytes
      queue.py     the core: which job goes to which worker, and when (no socket, no clock)
        job.py function.py backlog.py lanes.py    its nouns
      store/       what survives a crash; every change of one event-loop tick is one transaction

    submitter.py      capture's client (LaneQueue)
    worker_client.py  a sink worker's client (LaneJobs)

Dispatch never looks into a workload and never imports capture or sinks.
"""
