"""How far reading something raises the memory of a process."""

import subprocess
import sys

MEGABYTE = 2**20

MEASURE = """
import sys
from pathlib import Path
{imports}

def peak():  # bytes; not ru_maxrss, which a child has from its parent at first
    return 1024 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

path = Path(sys.argv[1])
before = peak()
try:
    outcome = {expression}
except ValueError as error:
    outcome = error
print(peak() - before, outcome)
"""


def measured(imports: str, expression: str, path: object) -> tuple[int, str]:
    """(bytes, value or error) of an expression about `path`, evaluated in a process of its own."""
    code = MEASURE.format(imports=imports, expression=expression)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    rise, _, outcome = done.stdout.partition(" ")
    return int(rise), outcome.strip()
