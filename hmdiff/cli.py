"""The command line: `hmdiff recover`, `hmdiff render`, `hmdiff export`, `hmdiff doctor`.

It uses what a study has made; the study itself is run by DVC (`make repro`). What a user gets wrong
is told in one line on standard error, and the exit code is then 1. Heavy imports wait until a
command needs them, so that help is there at once.
"""

import argparse
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .recovery.api import Answer
    from .recovery.bundle import Bundle

RECOVER = """\
examples:
  hmdiff recover photo.jpg --box 20,0,400,512
  hmdiff recover photo.jpg --box 20,0,200,400 --box 300,10,180,390 -o people/
  hmdiff recover cut_off_at_the_left.jpg --box -50,0,400,512
  hmdiff recover photos/ --boxes people.csv
  hmdiff recover hands/ --subject hand --samples 50

Boxes are x,y,width,height in pixels of the upright picture, around the whole person, hidden parts
included; every --box is taken in every picture, while a line picture,x,y,width,height of a --boxes
file (with these names as its first line) is of one. Each picture and box gets a folder with
index.html, overlay.png, side.png, top.png, mesh.glb, mesh.obj, mesh.ply, hypotheses.npz and
joints.json; where one of another picture, box or subject has its name already, it is refused.
The released networks saw rendered images only: a real photograph is out of their domain.
"""
RENDER = """\
examples:
  hmdiff render out/photo/mesh.glb
  hmdiff render out/photo/mesh.ply -o side.png --turn 90 --size 1200
"""
EXPORT = """\
examples:
  hmdiff export out/photo/hypotheses.npz mesh.stl --unit mm
  hmdiff export out/photo/mesh.glb mesh.ply
"""

DOCTOR = """\
examples:
  hmdiff doctor                       what the licensed profile lacks in data/raw
  hmdiff doctor --rehearse            and a small batch of the study's own sets through every stage
  hmdiff doctor --profile default --rehearse

Run it in the project's folder. data/raw/README.md says where the files come from.
"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, exit code 1."""

    def error(self, message: str) -> None:
        self.exit(1, f"{self.prog}: {message}; see {self.prog} --help\n")


def box(text: str) -> tuple[float, ...]:
    """x,y,width,height."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not x,y,width,height") from None
    return x, y, w, h


def place(text: str) -> Path:
    """A path; an empty one, as of an unset variable, would be the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return Path(text)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {low} to {high}")
        return int(text)

    return read


def parser() -> Parser:
    """The parser; a command is a subparser whose default `run` takes the parsed arguments and
    returns the exit code."""
    top = Parser("hmdiff", description="Recover human meshes from pictures, with uncertainty.")
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable, what: str, examples: str) -> Parser:
        one = commands.add_parser(
            name, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        one.set_defaults(run=run)
        return one

    one = command("recover", recover, "recover people or hands from pictures", RECOVER)
    one.add_argument("pictures", nargs="+", type=place, help="picture files, or folders of them")
    one.add_argument("--box", action="append", type=box, metavar="X,Y,W,H", help="may be repeated")
    one.add_argument("--boxes", type=place, metavar="FILE", help="a CSV of each picture's boxes")
    one.add_argument(
        "--subject", choices=("body", "hand"), default="body", help="hand: a right one"
    )
    one.add_argument("--samples", type=whole(2, 1000), default=25, help="hypotheses (25)")
    one.add_argument("--seed", type=whole(0, 10**9), default=0, help="of the hypotheses (0)")
    one.add_argument("--weights", type=place, help="a folder of released weights")
    one.add_argument("-o", "--out", type=place, default=Path("out"), help="output folder (out)")

    one = command("render", render, "draw a mesh file as a picture", RENDER)
    one.add_argument(
        "mesh", type=place, help="GLB, OBJ, PLY, STL, OFF in metres, or hypotheses.npz"
    )
    one.add_argument("-o", "--out", type=place, help="a PNG file (a new one beside the mesh)")
    one.add_argument("--size", type=whole(16, 4096), default=800, help="pixels a side (800)")
    one.add_argument("--turn", type=whole(0, 360), default=0, help="degrees; 90: from the right")

    one = command("export", export, "write a recovered mesh in another format or unit", EXPORT)
    one.add_argument(
        "mesh", type=place, help="hypotheses.npz, or GLB, OBJ, PLY, STL, OFF in metres"
    )
    one.add_argument("out", type=place, help="the new file; its ending is its format")
    one.add_argument("--unit", choices=("m", "cm", "mm", "in"), default="m", help="of the new file")

    one = command("doctor", doctor, "tell what a profile lacks, and rehearse it", DOCTOR)
    one.add_argument("--profile", default="licensed", help="a profile's name (licensed)")
    one.add_argument(
        "--rehearse", action="store_true", help="take a small batch through all stages"
    )
    return top


def recover(given: argparse.Namespace) -> int:
    """Every picture and box in turn; one that fails is told, and the others go on."""
    from tqdm import tqdm

    from .recovery import bundle, pictures

    if given.box and given.boxes:
        raise ValueError("--box and --boxes exclude one another; give one of them")
    if given.out.exists() and not given.out.is_dir():
        raise ValueError(f"{given.out}: not a folder; give another with -o")
    weights = given.weights or bundle.RELEASED
    with reading(weights):
        system = bundle.load(weights, given.subject)
    failed, taken, paths = 0, set(), []
    for path in given.pictures:
        try:
            with reading(path):
                found = pictures.find(path)
                rest = pictures.left_out(path, found)
            paths += found
            if rest:
                say(rest)
        except (OSError, ValueError) as error:
            failed += tell(path, error)
    asked = listed(given.boxes, paths) if given.boxes else {p: given.box or [None] for p in paths}
    with tqdm(total=sum(map(len, asked.values())), unit="mesh", disable=None) as bar:
        for path, its_boxes in asked.items():
            for failure in recover_from(path, its_boxes, system, given, taken):
                failed += failure
                bar.update()
    return 1 if failed else 0


def listed(file: Path, paths: list[Path]) -> dict[Path, list]:
    """The boxes of each picture in a `--boxes` file; ValueError where a name is of two pictures."""
    from .recovery import boxes

    with reading(file):
        found = boxes.read(file)
    asked = {path: found.get(path.name, []) for path in paths}
    for name, count in Counter(path.name for path in asked).items():
        if count > 1:
            fault = f"{count} of the pictures given are called {shown(name)}"
            raise ValueError(f"{file}: {fault}; recover their folders one by one")
    if others := found.keys() - {path.name for path in paths}:
        say(f"{file}: {len(others)} of its pictures were not given ({min(others)}, ...)")
    return asked


def recover_from(
    path: Path, its_boxes: list, system: "Bundle", given: argparse.Namespace, taken: set[str]
) -> Iterator[int]:
    """All that is asked of one picture: for each box 0, or 1 where it failed, once that is told."""
    from .recovery import api, delivery, pictures

    try:
        if not its_boxes:
            raise ValueError(f"{path}: no box in {given.boxes}; add a line")
        picture = pictures.read(path)
    except (OSError, ValueError) as error:
        yield tell(path, error)
        return
    for number, box in enumerate(its_boxes, 1):
        several = number if len(its_boxes) > 1 else None
        out = given.out / folder_name(path, several, taken)
        try:
            answer = api.answer(picture, box, system, given.samples, given.seed)
            delivery.deliver(answer, shown(path.name), box is not None, out)
        except (OSError, ValueError) as error:
            yield tell(path, error)
        else:
            say(f"{shown(path)}: {'' if box else assumed(answer)}see {out / 'index.html'}")
            yield 0


def render(given: argparse.Namespace) -> int:
    """A mesh as a picture, in its colours if it has some."""
    from . import viewer
    from .files import write_file
    from .recovery import delivery, surfaces

    with reading(given.mesh):
        surface = surfaces.read(given.mesh)
    out = given.out or given.mesh.with_suffix(".png")
    surfaces.checked(out, (".png",))
    if given.out is None and out.exists():
        raise ValueError(f"{out}: there already; name the picture with -o")
    colour = viewer.CLAY if surface.colour is None else surface.colour
    view = viewer.fit_view(surface.vertices_m, given.size, given.turn)
    write_file(out, delivery.png(view.draw(surface.vertices_m, surface.faces, colour)))
    say(f"see {out}")
    return 0


def export(given: argparse.Namespace) -> int:
    """A mesh in another format or unit."""
    from .recovery import surfaces

    with reading(given.mesh):
        surface = surfaces.read(given.mesh)
    surfaces.write(given.out, surface, given.unit)
    say(f"see {given.out}")
    return 0


def doctor(given: argparse.Namespace) -> int:
    """What a profile has and lacks; the exit code is 1 where it cannot run."""
    from .pipeline.doctor import doctor as examine

    return examine(given.profile, given.rehearse)


def folder_name(path: Path, number: int | None, taken: set[str]) -> str:
    """A name for the results of a picture that is a name only, and not yet in `taken` (which it
    joins): no dots, no separators, not too long, unlike the others on any file system."""
    letters = (c if c.isalnum() or c in "-_" else "_" for c in path.stem)
    stem = "".join(letters)[:50].strip("-_") or "picture"
    base = name = stem if number is None else f"{stem}-box{number}"
    more = 2
    while name.casefold() in taken:
        name, more = f"{base}-{more}", more + 1
    taken.add(name.casefold())
    return name


def assumed(answer: "Answer") -> str:
    """Which box was taken where none was given."""
    x, y, w, h = answer.found.box
    return f"no --box, so the whole picture was taken ({x:g},{y:g},{w:g},{h:g}); "


def shown(name: object) -> str:
    """A file's name as text that can be printed, whatever its bytes."""
    return str(name).encode(errors="replace").decode()


def say(line: str) -> None:
    """Print a line above the progress bar, at once though it be to a pipe."""
    from tqdm import tqdm

    tqdm.write(" ".join(shown(line).splitlines()))
    sys.stdout.flush()


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the system has against reading a file or folder as one line; no other -o would help."""
    try:
        if path.is_file():
            path.open("rb").close()  # for its reader may take a refusal for damage
        yield
    except OSError as error:
        if error.strerror is None:  # of our own, a whole line
            raise
        remedy = "change its permissions, or copy it to another place"
        raise ValueError(
            f"{error.filename or path}: cannot be read ({error.strerror}); {remedy}"
        ) from None


def line_of(error: Exception) -> str:
    """What went wrong as one line; the system's own errors of writing name a file, no remedy."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{shown(error.filename)}: {error.strerror}; choose another place with -o"
    return " ".join(shown(error).split())


def tell(path: Path, error: Exception) -> int:
    """Print, in one line that names the file, why it failed; 1."""
    from tqdm import tqdm

    line = line_of(error)
    line = line if shown(path) in line else f"{shown(path)}: {line}"
    tqdm.write(" ".join(line.splitlines()), file=sys.stderr)
    return 1


def joined(arguments: list[str]) -> list[str]:
    """The arguments with `--box -50,0,400,512` as one: a leading minus would be an option's."""
    found: list[str] = []
    for text in arguments:
        if found[-1:] == ["--box"] and text.startswith("-"):
            text = f"{found.pop()}={text}"
        found.append(text)
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a name that a terminal cannot show is no failure
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clears up as after Ctrl-C
    given = parser().parse_args(joined(sys.argv[1:] if arguments is None else arguments))
    try:
        return given.run(given)
    except BrokenPipeError:  # whoever read the lines has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        print(line_of(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
