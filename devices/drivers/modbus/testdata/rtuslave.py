"""An independent Modbus RTU slave for the driver's tests, served by pymodbus.

    rtuslave.py NODE UNIT...

Every unit has 200 coils, discrete inputs, holding and input registers; the rest of the
address space is refused with exception 2. Commands come as lines on standard input and
are answered with one line each:

    set UNIT co|di|hr|ir ADDRESS VALUE...    -> ok
    get UNIT co|di|hr|ir ADDRESS COUNT       -> VALUE...

It says "ready" once the port is open, and ends with its input.
"""
import asyncio
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server.async_io import ModbusSerialServer
from pymodbus.transaction import ModbusRtuFramer

FUNCTIONS = {"co": 1, "di": 2, "hr": 3, "ir": 4}


def unit():
    block = lambda: ModbusSequentialDataBlock(0, [0] * 200)
    return ModbusSlaveContext(di=block(), co=block(), hr=block(), ir=block(), zero_mode=True)


async def main(node, units):
    slaves = {n: unit() for n in units}
    context = ModbusServerContext(slaves=slaves, single=False)
    server = ModbusSerialServer(context, framer=ModbusRtuFramer, port=node, baudrate=115200, timeout=0.01,
                                ignore_missing_slaves=True)
    await server.start()
    serving = asyncio.ensure_future(server.serve_forever())
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := (await lines.readline()).decode().split():
        verb, n, table, address, *rest = line
        values = [int(v) for v in rest]
        slave, function = slaves[int(n)], FUNCTIONS[table]
        if verb == "set":
            slave.setValues(function, int(address), values)
            print("ok", flush=True)
        else:
            print(*[int(v) for v in slave.getValues(function, int(address), values[0])], flush=True)
    serving.cancel()


asyncio.run(main(sys.argv[1], [int(n) for n in sys.argv[2:]]))
