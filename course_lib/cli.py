"""The `course` command.

Main path: each command imports what it needs when it runs, so that `course --help` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from course_lib.errors import CourseError
from course_lib.files import FileError, check_place, write_whole
from course_lib.paths import ROOT, work_dir

FIRST_NOTEBOOK = "00_start_here.ipynb"

app = typer.Typer(
    name="course",
    help="Advanced DSPy, the course: set up, check, build and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

audit = typer.Typer(name="audit", help="The service's audit log.", no_args_is_help=True)
app.add_typer(audit)

SecretsFolder = Annotated[
    Path | None,
    typer.Option(
        "--secrets", exists=True, file_okay=False, help="a file for each setting, named as its variable"
    ),
]
ExerciseId = Annotated[str, typer.Argument(help='the exercise, such as "0.1"')]


@app.command()
def setup() -> None:
    """Install the kernel and make your copies of the notebooks; nothing of yours is overwritten.

    Example: course setup
    """
    from course_lib.authoring.kernel import install
    from course_lib.authoring.wheels import install_missing
    from course_lib.copies import work

    for name in install_missing():
        typer.echo(f"Installed {name}, which is read as data.")
    install()
    made = work.make_copies()
    new = f" ({len(made)} new)" if made else ""
    typer.echo(f"Set up. Your notebooks are in {_shown(work_dir())}{new}.")


@app.command()
def lab(
    port: Annotated[int, typer.Option(help="the port to ask for; another where it is taken")] = 8888,
    browser: Annotated[bool, typer.Option(help="open a browser window, where there is a screen")] = True,
) -> None:
    """Start JupyterLab on "Start here" and print its address; stop it with Ctrl-C.

    Example: course lab --no-browser
    """
    from course_lib.lab import start

    setup()
    start(work_dir(), FIRST_NOTEBOOK, port=port, wants_browser=browser)


@app.command()
def doctor() -> None:
    """Check this machine, print the remedy for each thing that is wrong, write work/doctor.txt.

    Example: course doctor
    """
    from course_lib.doctor import examine

    if not examine():
        raise typer.Exit(1)


@app.command()
def lm(
    port: Annotated[int, typer.Option(help="the loopback port to listen on")] = 8400,
    host: Annotated[str, typer.Option(help="another address, to serve a workshop")] = "127.0.0.1",
    record: Annotated[Path | None, typer.Option(help="a new file for all that passes through")] = None,
    replay: Annotated[Path | None, typer.Option(help="a recording to answer from, without a model")] = None,
) -> None:
    """Run the language model's endpoint alone, OpenAI-compatible, until Ctrl-C.

    Example: course lm --port 8400 --record run.jsonl
    """
    from course_lib.lm.process import serve

    serve(host=host, port=port, record=record, replay=replay)


@app.command()
def serve(
    replicas: Annotated[int, typer.Option(min=1, max=16, help="how many processes of the service")] = 2,
) -> None:
    """Run the desk as a service, with all that it needs, until Ctrl-C; each part is a process of its own.

    REDIS_URL, DATABASE_URL and AMQP_URL name servers to use instead, OTEL_EXPORTER_OTLP_ENDPOINT a collector.

    Example: course serve
    """
    from course_lib.deployment.stack import serve as serve_stack

    serve_stack(versions=(None,) * replicas)


@app.command()
def replica(secrets: SecretsFolder = None) -> None:
    """Run one process of the service at the address of its settings until SIGTERM, as a container does.

    It takes no more requests then, and ends when what is under way is answered.

    Example: COURSE_SERVICE_PORT=8000 course replica --secrets /run/secrets
    """
    from course_lib.deployment import DeploymentConfig
    from course_lib.deployment.replica import run_alone

    run_alone(DeploymentConfig(_secrets_dir=secrets))


@app.command()
def worker(secrets: SecretsFolder = None) -> None:
    """Do the jobs of the queue until Ctrl-C or SIGTERM, then finish what is under way, or give it back.

    AMQP_URL (amqp:// or nats://), DATABASE_URL and REDIS_URL name its servers. It may be killed at any time:
    what it had goes to another worker, and nothing is done twice.

    Example: AMQP_URL=... DATABASE_URL=... course worker
    """
    import asyncio

    from course_lib.deployment import DeploymentConfig
    from course_lib.deployment.replica import work

    asyncio.run(work(DeploymentConfig(_secrets_dir=secrets)))


@app.command()
def revive(secrets: SecretsFolder = None) -> None:
    """Send the jobs that were given up again, as if they had never failed; results that are saved stay.

    Example: AMQP_URL=... DATABASE_URL=... course revive
    """
    import asyncio

    from course_lib.deployment import DeploymentConfig
    from course_lib.deployment.replica import revive

    typer.echo(f"{asyncio.run(revive(DeploymentConfig(_secrets_dir=secrets)))} jobs were sent again.")


config_app = typer.Typer(help="Settings of the service.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command("check")
def config_check(secrets: SecretsFolder = None) -> None:
    """Check the service's settings and print them without secrets; one line for each that is wrong.

    Example: COURSE_SERVICE_PROFILE=production course config check
    """
    from course_lib.deployment import ConfigError, DeploymentConfig

    try:
        shown = DeploymentConfig(_secrets_dir=secrets).shown()
    except ConfigError as error:
        for problem in error.problems:
            typer.echo(problem, err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join(f"{name:<20} {value}" for name, value in shown.items()))


@app.command()
def build(
    check: Annotated[bool, typer.Option("--check", help="write nothing, fail if stale")] = False,
    execute: Annotated[bool, typer.Option("--execute", help="also run changed solutions")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="run all solutions again")] = False,
) -> None:
    """Build notebooks/ and solutions/ from lessons/.

    Example: course build --check
    """
    from course_lib.authoring import build as building

    if check:
        stale = building.check()
        for path in stale:
            typer.echo(f"stale: {_shown(path)}")
        if stale:
            raise CourseError(f"{len(stale)} built notebooks differ from their lessons; run: make build")
        typer.echo("What is built is fresh.")
        return
    for path in building.build(execute=execute or fresh, fresh=fresh):
        typer.echo(f"wrote {_shown(path)}")


@app.command()
def proof(
    as_json: Annotated[bool, typer.Option("--json", help="a list of objects instead of lines")] = False,
    only: Annotated[list[str] | None, typer.Argument(help="exercises to prove; all if none is named")] = None,
) -> None:
    """Prove every exercise from four sides: stub, solution, other right answers, wrong answers.

    Example: course proof --json
    """
    from course_lib.authoring import proof as proving

    proofs = proving.prove(only or None)
    shown = json.dumps([each.as_dict() for each in proofs], indent=2) if as_json else proving.report(proofs)
    typer.echo(shown)
    if not all(each.holds for each in proofs):
        raise typer.Exit(1)


@app.command()
def reset(exercise: ExerciseId) -> None:
    """Put the untouched stub of one exercise back into your notebook; your answer is kept aside.

    Example: course reset 0.1
    """
    from course_lib.copies import work

    typer.echo(work.reset(exercise))


@app.command()
def diff(exercise: ExerciseId) -> None:
    """Show your answer to one exercise against ours.

    Example: course diff 0.1
    """
    from course_lib.copies import work

    typer.echo(work.diff(exercise))


@app.command()
def update() -> None:
    """Bring your notebooks up to the shipped ones; what you wrote stays.

    Example: git pull && course update
    """
    from course_lib.copies import work

    typer.echo(work.update())


@app.command()
def export(
    to: Annotated[Path | None, typer.Argument(help="the file; else progress.json in work/")] = None,
) -> None:
    """Write your progress as one small file without a name, for an instructor.

    Example: course export mine.json
    """
    from course_lib.exercises.engine import progress

    to = (to or work_dir() / "progress.json").absolute()
    write_whole(to, json.dumps(progress.export(), indent=2) + "\n")
    notes = "\n".join(progress.notes())
    typer.echo(f"Wrote {_shown(to)}: no name, no path and no code of yours is in it.\n{notes}".rstrip())


@app.command()
def flight(
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="another seed, another script")] = 7,
    to_json: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, writable=True, help="a file for all that was seen"),
    ] = None,
    to_html: Annotated[
        Path | None, typer.Option("--html", dir_okay=False, writable=True, help="a file for the scorecard")
    ] = None,
    to_certificate: Annotated[
        Path | None,
        typer.Option("--certificate", dir_okay=False, writable=True, help="a page to print: what was passed"),
    ] = None,
    name: Annotated[str, typer.Option(help="whom the certificate names; nobody without it")] = "",
    program: Annotated[
        str, typer.Option(help="a DSPy program of your own to fly instead, my_module:MyProgram")
    ] = "",
    inputs: Annotated[
        Path | None, typer.Option(dir_okay=False, help="its inputs: a JSON object of its fields a line")
    ] = None,
    gates: Annotated[bool, typer.Option(help="measure the quality gates too, ten seconds")] = True,
) -> None:
    """Fly the system, or a program of your own, through 90 seconds of faults; print the scorecard.

    Exit code 0: every level and gate holds; 1: one does not, or was not measured; 2: an argument is wrong.
    Progress is told on stderr.

    Example: course flight --seed 7 --html scorecard.html
    """
    import asyncio
    from dataclasses import replace

    from course_lib.exercises.flight import passed
    from course_lib.flight import ProgramError, fly_program, flying, measured_gates, report
    from course_lib.flight.result import Gate
    from course_lib.redaction import one_line

    if bool(program) != bool(inputs):
        raise typer.BadParameter("--program and --inputs go together; give both, or none")
    if program and to_certificate:
        raise typer.BadParameter("a certificate is for a flight of the system; leave out --program")
    try:
        for path in filter(None, (to_json, to_html, to_certificate)):
            check_place(path.absolute())
    except FileError as error:
        raise typer.BadParameter(str(error)) from None
    if inputs:
        try:
            flown = fly_program(program, inputs, seed=seed, on_tick=_told)
        except ProgramError as error:
            _told(f"course: {error}")
            raise typer.Exit(2) from None
    else:
        flown = asyncio.run(flying(seed=seed, on_tick=report.Telling(_told)))  # an interrupt ends it
        if gates:
            _told("the quality gates are measured")
            try:
                measured = measured_gates()
            except Exception as error:  # border: what was flown is told, whatever the gates meet
                measured = [Gate("quality gates", "measured", f"not measured: {one_line(str(error))}", False)]
                _told(f"course: {error}")
            flown = replace(flown, gates=measured)
    if to_json:
        write_whole(to_json.absolute(), report.as_json(flown))
    if to_html:
        write_whole(to_html.absolute(), report.as_html(flown))
    if to_certificate:
        write_whole(to_certificate.absolute(), report.certificate(flown, exercises=passed(), name=name))
    typer.echo(report.as_text(flown))  # last: who reads it may go away
    raise typer.Exit(0 if flown.holds else 1)


def _told(words: str) -> None:
    typer.echo(words, err=True)


@audit.command()
def verify() -> None:
    """Say whether every record is as it was written, or which is the first that is not.

    DATABASE_URL names the log, COURSE_SERVICE_SIGNING_KEY is its key, and REDIS_URL holds its head.

    Example: course audit verify
    """
    import asyncio

    from course_lib.deployment.audit import Broken, verify_log

    found = asyncio.run(verify_log())
    typer.echo(str(found))
    if isinstance(found, Broken):
        raise typer.Exit(1)


release = typer.Typer(name="release", help="The versions of the service's programs.", no_args_is_help=True)
app.add_typer(release)

ProgramName = Annotated[str, typer.Argument(help="a program of the service: answer or triage")]
VersionName = Annotated[str, typer.Argument(help="a version of it")]
ProgramsFolder = Annotated[
    Path, typer.Option("--folder", envvar="COURSE_SERVICE_PROGRAMS_FOLDER", help="where the programs are")
]


@release.command("register")
def release_register(
    program: ProgramName,
    version: VersionName,
    state: Annotated[Path, typer.Argument(help="the program's state, JSON, as program.save() writes it")],
    folder: ProgramsFolder,
    parent: Annotated[str | None, typer.Option(help="the version from which it was made")] = None,
) -> None:
    """Write a program's state as a new version, a candidate.

    Example: course release register triage 2 optimized.json --parent 1 --folder programs
    """
    from course_lib.deployment import Registry, load_program

    Registry(folder).register(program, load_program(program, state), version, parent=parent)
    release_status(program, folder)


@release.command("status")
def release_status(program: ProgramName, folder: ProgramsFolder) -> None:
    """Print all versions of a program, and why each is what it is.

    Example: course release status triage --folder programs
    """
    from course_lib.deployment import Registry

    for each in Registry(folder).versions(program):
        from_parent = f"from {each.parent}" if each.parent else ""
        typer.echo(f"{each.version:<12} {each.stage:<10} {from_parent:<12} {each.reason}".rstrip())


@release.command("check")
def release_check(
    program: ProgramName,
    version: VersionName,
    folder: ProgramsFolder,
    margin: Annotated[float, typer.Option(min=0, max=1, help="how much worse it may be")] = 0.0,
    split: Annotated[Literal["train", "dev", "test"], typer.Option(help="which tickets")] = "dev",
) -> None:
    """Compare a version with the live one, or with the program as it was written, on the desk's tickets.

    Exit code 0: promote; 1: refuse; 3: undecided, the tickets are too few.

    Example: course release check triage 2 --folder programs --margin 0.1
    """
    from course_lib.deployment import Registry, check_release

    verdict = check_release(Registry(folder), program, version, split=split, margin=margin)
    typer.echo(f"{program} {version}: {verdict.decision}; {verdict.reason}")
    raise typer.Exit({"promote": 0, "refuse": 1, "undecided": 3}[verdict.decision])


@release.command("promote")
def release_promote(program: ProgramName, version: VersionName, folder: ProgramsFolder) -> None:
    """Make a version live; whoever starts the service's processes starts them with it.

    Example: course release promote triage 2 --folder programs
    """
    from course_lib.deployment import Registry

    Registry(folder).promote(program, version, "by hand")
    release_status(program, folder)


@release.command("rollback")
def release_rollback(program: ProgramName, folder: ProgramsFolder) -> None:
    """Make the version live again that was live before.

    Example: course release rollback triage --folder programs
    """
    from course_lib.deployment import Registry

    Registry(folder).rollback(program, "by hand")
    release_status(program, folder)


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main() -> None:
    """Run the command; an error of ours is one line on standard error and exit code 1."""
    try:
        app()
    except CourseError as error:
        print(f"course: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
