"""Records of a foreign logger. Argument: `info` or `warning`, the latter with an exception."""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from turns import each_in_loop

logger = logging.getLogger("shop.orders")


async def inform(operations: int) -> None:
    for number in range(operations):
        logger.info("order %s is on its way", number)


async def warn(operations: int) -> None:
    try:
        order()
    except KeyError:
        for number in range(operations):
            logger.warning("order %s is lost", number, exc_info=True)


def order() -> None:
    shelf()


def shelf() -> None:
    raise KeyError("shelf")


def main(level: str) -> None:
    with open(os.devnull, "w") as nowhere:
        logging.basicConfig(stream=nowhere, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        loop = asyncio.new_event_loop()
        if level == "info":
            each_in_loop(inform, 1000, loop)
        else:
            each_in_loop(warn, 200, loop)


main(*sys.argv[1:])
