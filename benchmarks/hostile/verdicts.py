"What became of one input at one door: taken, refused in a line, or an offence."
import contextlib
import io
import re
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fakeface.cli.main import main
from fakeface.core.basics import InputError
from fakeface.data.images import RejectedImage

FINE, REFUSED = "pass", "refused"
OFFENCES = ("TRACEBACK", "HANG", "MEMORY", "SILENT", "WORDS") # SILENT: taken and wrong; WORDS: refused, but not in a line that names it
LONGEST = 1200 # characters of a refusal
LIMIT = 10.0 # seconds of work of one door


class Watch:
    "Whom to tell that a door is tried now."
    tell: Callable[[str], object] = staticmethod(lambda door: None)


class Silent(Exception):
    "An input was taken and something about the answer is wrong."


class Broken(Exception):
    "A command ended otherwise than in 0 or 2."


class Verdict(NamedTuple):
    "What one door made of one input."
    door: str
    kind: str # FINE, REFUSED or one of OFFENCES
    said: str = "" # the refusal, or what is wrong
    seconds: float = 0.0 # of work


def last_frames(error: BaseException, n: int = 3) -> str:
    "An error with the last places it came through, in a line."
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "hostile" not in f.filename][-n:]
    way = " > ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]} [{way}]"


def bad_words(said: str, names: Sequence[str]) -> str | None:
    "What is wrong with a refusal: empty, of several lines, endless, or naming none of `names`; None where it is a good one."
    if not said.strip(): return "an empty message"
    if "\n" in said.strip(): return f"a message of several lines: {said[:200]!r}"
    if len(said) > LONGEST: return f"a message of {len(said):,} characters: {said[:200]!r}"
    if names and not any(name and name.lower() in said.lower() for name in names): return f"a message that names no file: {said[:200]!r}"
    return None


def knock(name: str, # of the door
          door: Callable[[], object], # takes the input, or raises
          names: Sequence[str] = (), # one of which a refusal has to hold
         ) -> Verdict:
    "What a door makes of an input. A door that works for longer than LIMIT, even if it ends, hangs."
    Watch.tell(name)
    began = time.process_time()
    verdict = _knock(name, door, names)
    spent = time.process_time() - began
    if spent > LIMIT: verdict = Verdict(name, "HANG", f"{spent:.0f} s of work")
    return verdict._replace(seconds=spent)


def _knock(name: str, door: Callable[[], object], names: Sequence[str]) -> Verdict:
    "The verdict, whatever it took."
    try: door()
    except (InputError, RejectedImage) as e:
        wrong = bad_words(str(e), names)
        return Verdict(name, "WORDS", wrong) if wrong else Verdict(name, REFUSED, str(e))
    except Silent as e: return Verdict(name, "SILENT", str(e))
    except Broken as e: return Verdict(name, "TRACEBACK", str(e))
    except MemoryError as e: return Verdict(name, "MEMORY", last_frames(e))
    except KeyboardInterrupt: raise
    except BaseException as e: return Verdict(name, "TRACEBACK", last_frames(e)) # a panic of a Rust library is no Exception
    return Verdict(name, FINE)


def command(*argv: object) -> str:
    "Runs a command in this process and gives what it printed; raises `InputError` where it refused, `Broken` where it failed."
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: code = main([str(a) for a in argv])
        except SystemExit as e: code = e.code
    if code == 0: return out.getvalue() + err.getvalue()
    said = [line for line in err.getvalue().splitlines() if line.strip() and not line.startswith("note: ")]
    if code == 2: raise InputError("\n".join(said))
    way = re.findall(r'File "[^"]*?(\w+\.pyx?)", line (\d+), in (\S+)', err.getvalue())[-3:] # with FAKEFACE_DEBUG
    raise Broken(f"exit code {code}: {said[-1][:300] if said else 'nothing'} [{' > '.join(':'.join(w) for w in way)}]")
