"""A Modbus RTU slave: modbusslave.py NODE UNIT [ADDRESS=VALUE ...]. Says every write on standard output."""
import sys

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import StartSerialServer
from pymodbus.transaction import ModbusRtuFramer


class Block(ModbusSequentialDataBlock):
    def __init__(self, kind, values):
        super().__init__(0, values)
        self.kind = kind

    def setValues(self, address, values):
        super().setValues(address, values)
        for i, v in enumerate(values if isinstance(values, list) else [values]):
            print(f"{self.kind} {address + i} = {int(v)}", flush=True)


registers = [0] * 100
for arg in sys.argv[3:]:
    at, value = arg.split("=")
    registers[int(at)] = int(value)

slave = ModbusSlaveContext(
    di=ModbusSequentialDataBlock(0, [0] * 100),
    co=Block("coil", [0] * 100),
    hr=Block("register", list(registers)),
    ir=ModbusSequentialDataBlock(0, list(registers)),
    zero_mode=True,  # address 0 on the wire is address 0 here
)
context = ModbusServerContext(slaves={int(sys.argv[2]): slave}, single=False)
StartSerialServer(context=context, framer=ModbusRtuFramer, port=sys.argv[1], baudrate=9600, timeout=0.01)
