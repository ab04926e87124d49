"""What it costs to enter the room."""

import subprocess
import sys


def test_the_room_imports_no_tensor_library_and_no_other_room() -> None:
    program = "import sys, frozenhead.report; print(*sys.modules)"
    modules = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not modules & {"torch", "transformers", "tokenizers", "sklearn", "matplotlib.pyplot"}
    rooms = {name.split(".")[1] for name in modules if name.startswith("frozenhead.")}
    assert rooms <= {"report", "errors", "files", "labels", "shell"}
