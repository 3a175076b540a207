"""Resident memory, in MiB, once the SDK is loaded and 5,000 room events have gone through: more than a journal holds."""

from __future__ import annotations

import asyncio
import os

import rooms
from turns import each

EVENTS = 5000


def main() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    room = rooms.unconnected_room()
    pair = rooms.connected(), rooms.disconnected()
    for _ in range(EVENTS // 2):
        for event in pair:
            room._on_room_event(event)
    each(resident_mib)


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024**2


main()
