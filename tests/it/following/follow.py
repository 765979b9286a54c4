"""Follows stream USERS from its first event into a SQLite file, once and in order, with a broker account and nothing else.

Usage: follow.py BROKER USER PASSWORD FILE
"""

import asyncio
import json
import sqlite3
import sys

import nats
from nats.errors import TimeoutError as Quiet

BROKER, USER, PASSWORD, FILE = sys.argv[1:]
rows = sqlite3.connect(FILE, isolation_level=None)  # each statement is its own transaction
rows.execute("create table if not exists applied (seq integer primary key, id text not null unique) strict")


def position():
    last = rows.execute("select seq, id from applied order by seq desc limit 1").fetchone()
    return last or (0, None)


def apply(seq, data):
    """Applies the next event; False: this is not it. Effect and position are one row, so they commit together."""
    event, (at, applied) = json.loads(data), position()
    if seq != at + 1 or event.get("prev") != applied:
        return False
    rows.execute("insert into applied values (?, ?)", (seq, event["id"]))
    return True


async def catch_up(broker):
    """Reads from the stream until it has nothing more."""
    inbox = broker.new_inbox()
    answers = await broker.subscribe(inbox)
    while True:
        first = position()[0] + 1
        question = json.dumps({"seq": first, "batch": 500}).encode()
        await broker.publish("from_users.API.DIRECT.GET.USERS", question, reply=inbox)
        while True:
            answer = await answers.next_msg(timeout=5)
            if (answer.headers or {}).get("Status"):
                break  # 204 ends a batch, 404 says that there is nothing yet
            apply(int(answer.headers["Nats-Sequence"]), answer.data)
        if position()[0] < first:
            return await answers.unsubscribe()


async def follow():
    broker = await nats.connect(
        BROKER, user=USER, password=PASSWORD, inbox_prefix=b"_INBOX_auditor", max_reconnect_attempts=1
    )
    try:
        live = await broker.subscribe("live.users.>")  # first, so that no event falls between reading and listening
        await catch_up(broker)
        while not broker.is_closed:
            try:
                copy = await live.next_msg(timeout=1)
            except Quiet:
                await catch_up(broker)  # the last copy may have been lost
                continue
            seq = int(copy.headers["Nats-Sequence"])
            if not apply(seq, copy.data) and seq > position()[0]:
                await catch_up(broker)
    finally:
        await broker.close()


async def main():
    while True:
        try:
            await follow()
        except Exception as error:  # the broker is away; nothing is lost, since the position is ours
            print("again:", repr(error), file=sys.stderr, flush=True)
        await asyncio.sleep(0.2)


asyncio.run(main())
