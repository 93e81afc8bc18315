"""Takes one program out of the README: the block of C++ whose first line is a comment with the file's name."""

import re
import sys

readme, name = sys.argv[1:]
with open(readme, encoding="utf-8") as file:
    blocks = re.findall(r"```cpp\n(.*?)```", file.read(), re.DOTALL)
programs = [block for block in blocks if block.startswith(f"// {name}\n")]
if len(programs) != 1:
    sys.exit(f"{readme} has {len(programs)} blocks of C++ that begin with '// {name}'")
sys.stdout.write(programs[0])
