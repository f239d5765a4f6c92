"""A Modbus server made with pymodbus 3.0, for the tests: `tcp PORT` (0: a free one) or `rtu DEVICE`, then the unit
ids it has. It says "ready PORT" when it can be asked.

Every unit has 512 addresses in each of its four tables. A register says whose it is, as the tests' own servers do:
unit * 256 + address % 64 * 4 + function code % 4; a coil or a discrete input is bit 2 of that.
"""

import asyncio
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartAsyncSerialServer, StartAsyncTcpServer
from pymodbus.transaction import ModbusRtuFramer, ModbusSocketFramer

ADDRESSES = 512


def word(unit, function, address):
    return unit << 8 | (address & 0x3F) << 2 | function & 3


def table(unit, function):
    words = [word(unit, function, address) for address in range(ADDRESSES)]
    if function <= 2:
        words = [each >> 2 & 1 for each in words]
    return ModbusSequentialDataBlock(0, words)


def slave(unit):
    coils, discretes, holdings, inputs = (table(unit, function) for function in (1, 2, 3, 4))
    # Without zero_mode pymodbus adds 1 to every address.
    return ModbusSlaveContext(co=coils, di=discretes, hr=holdings, ir=inputs, zero_mode=True)


async def main():
    way, where, *units = sys.argv[1:]
    context = ModbusServerContext(slaves={int(unit): slave(int(unit)) for unit in units}, single=False)
    if way == "tcp":
        server = await StartAsyncTcpServer(
            context,
            address=("127.0.0.1", int(where)),
            framer=ModbusSocketFramer,
            allow_reuse_address=True,
            defer_start=True,
        )
        serving = asyncio.ensure_future(server.serve_forever())
        await asyncio.wait([serving, server.serving], return_when=asyncio.FIRST_COMPLETED)
        port = server.server.sockets[0].getsockname()[1]
    else:
        server = await StartAsyncSerialServer(
            context, port=where, framer=ModbusRtuFramer, baudrate=115200, parity="N", stopbits=1, defer_start=True
        )
        await server.start()
        serving = asyncio.ensure_future(server.serve_forever())
        port = 0
    print("ready", port, flush=True)
    await serving


asyncio.run(main())
