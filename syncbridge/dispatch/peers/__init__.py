"""Peers: a client and a worker of any Gearman server, for asyncio. Names to import: `syncbridge.dispatch`.

    server.py         addresses, TLS, and connecting to the first server that answers
    link.py           one connection: bytes in and out, and whether the other side is still there
    conversation.py   a client's requests and what answers them (no socket); task.py, client.py around it
    grabbing.py       how many jobs a worker asks for, and when it sleeps (no socket); job.py, worker.py around it

The sink's LaneWorker (../worker_client.py) stands on the same server.py, link.py and grabbing.py.
"""
