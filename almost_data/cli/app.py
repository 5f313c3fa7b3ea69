"""The command line: parse, call, render. Verbs import what they need when they run, so that help is quick."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from ..errors import InputError
from .build import ROOT, Root, Version, build, flags, pulled
from .evaluate import evaluate

app = App(
    name="almost-data",
    help="Preference data from synthetic feedback, as versioned and documented Hugging Face datasets.",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
importer = App(name="import", help="Take queries or responses from a file or a Hub dataset into the store.")
app.command(build)
app.command(importer)
app.command(evaluate)

Ref = Annotated[str, Parameter(help="name@version.")]
License = Annotated[str | None, Parameter(help="Licence of the data, as the Hub spells it.")]
Language = Annotated[str | None, Parameter(help="ISO 639 code of the data's language.")]


@importer.command(name="queries")
def import_queries(
    file: str, /, *, version: Version, license: License = None, language: Language = None, root: Root = ROOT
) -> None:
    """Import queries: a text file (one a line), or JSONL, Parquet or a Hub id with a column `query`,
    `prompt`, `question` or `text`."""
    from ..run import importing
    from ..run.plan import Step
    from ..run.presets import card as said
    from ..store.store import Store
    from . import report

    card = said(license, language)
    made = importing.import_queries(Store(root), file, version, card)
    report.summary(Store(root), [Step("build", made)])


@importer.command(name="responses")
def import_responses(
    file: str,
    /,
    *,
    ladder: Annotated[str, Parameter(help="Responders, best first: best,...,worst.")],
    version: Version,
    license: License = None,
    language: Language = None,
    root: Root = ROOT,
) -> None:
    """Import responses: JSONL, Parquet or a Hub id; `prompt` and a column per responder, or long rows."""
    from ..run import importing
    from ..run.plan import Step
    from ..run.presets import card as said
    from ..store.store import Store
    from . import report

    card = said(license, language)
    names = [name.strip() for name in ladder.split(",")]
    made = importing.import_responses(Store(root), file, names, version, card)
    report.summary(Store(root), [Step("build", made)])


@app.command(name="list")
def list_(*, root: Root = ROOT) -> None:
    """List what is in the store, and what was evaluated."""
    from ..store.store import Store
    from . import report, show_eval

    report.listing(Store(root))
    show_eval.listing(Store(root))


@app.command
def show(
    ref: Ref,
    /,
    *,
    json: Annotated[bool, Parameter(negative=(), help="Print manifest.json.")] = False,
    root: Root = ROOT,
) -> None:
    """Show an artifact: counts, ledger, failures, cost, recipe; of a build on its way, how far it is."""
    from ..store.store import Store
    from . import show as show_

    store = Store(root)
    if not json and not store.has(ref) and show_.unfinished(store, ref):
        return
    if json:
        from ..datasets.manifest import encode_manifest

        sys.stdout.write(encode_manifest(store.manifest(ref)).decode())
    else:
        from . import show_eval

        made = store.manifest(ref)
        show_.manifest(store, made)
        show_eval.of_model(store, made)


@app.command
def diff(
    a: Ref,
    b: Ref,
    /,
    *,
    markdown: Annotated[
        bool, Parameter(negative=(), help="As Markdown, for the changelog of the card.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Compare two versions of a dataset: settings, rows gained and lost, why, examples."""
    from ..store import diff as diff_
    from ..store.store import Store
    from . import show as show_

    found = diff_.diff(Store(root), a, b)
    if markdown:
        from dataclasses import asdict

        from ..cards.card import page

        sys.stdout.write(page("diff.md.jinja", **asdict(found)) + "\n")
    else:
        show_.diff(found)


@app.command
def ablate(
    *,
    from_: Annotated[
        str, Parameter(name="--from", help="responses@version, or ORG/NAME@REVISION, to build from.")
    ],
    version: Version,
    asis_rm: Annotated[
        str | None,
        Parameter(help="Reward model for the variants with the As-is RM: name@version, folder or Hub id."),
    ] = None,
    reviews: Annotated[
        Path | None,
        Parameter(help="JSONL or Parquet: prompt, responder_a, responder_b, score_a, score_b."),
    ] = None,
    preset: Annotated[
        Literal["tiny", "almost", "modern"], Parameter(help="Settings of the full filter.")
    ] = "tiny",
    config: Annotated[Path | None, Parameter(help="TOML file over the preset.")] = None,
    set_: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set", negative=(), help="comparisons.key=value over preset and config; repeatable."
        ),
    ] = (),
    markdown: Annotated[bool, Parameter(negative=(), help="Print the table as Markdown.")] = False,
    root: Root = ROOT,
) -> None:
    """Build comparisons without each of the filters, from the same responses, and compare them."""
    from ..readers import reviews as reviews_
    from ..run import ablation
    from ..run import build as build_
    from ..run.command import shown_command
    from . import report
    from . import show as show_

    read = reviews_.read(reviews) if reviews else None
    from_ = pulled(root, from_) if "/" in from_ else from_
    run = build_.prepare(
        None,
        root=root,
        version=version,
        preset=preset,
        config=config,
        assignments=(*set_, *flags("comparisons", asis_rm=asis_rm)),
        sources=(from_,),
        command=shown_command(sys.argv[1:]),
    )
    with report.Bars() as bars:
        outcomes = ablation.ablate(run, read, bars)
    if markdown:
        from ..cards.card import page

        values = {"source": from_, "header": ablation.HEADER, "note": ablation.NOTE}
        rows = [one.cells() for one in outcomes]
        sys.stdout.write(page("ablation.md.jinja", **values, rows=rows) + "\n")
    else:
        show_.ablation(outcomes)


@app.command
def journal(
    *,
    prune: Annotated[
        bool, Parameter(negative=(), help="Delete the replies that no dataset of the store refers to.")
    ] = False,
    unfinished: Annotated[
        bool, Parameter(negative=(), help="With --prune: those of unfinished builds too.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Show the journal of replies: its size, its hit rate, the builds that use it."""
    from ..store.store import Store
    from . import show as show_

    if unfinished and not prune:
        raise InputError("--unfinished goes with --prune")
    show_.journal(Store(root), prune, unfinished)


@app.command
def lineage(ref: Ref, /, *, root: Root = ROOT) -> None:
    """Show what an artifact was made from, up to the seeds."""
    from ..store.store import Store
    from . import show as show_

    show_.lineage(Store(root), ref)


@app.command
def verify(
    ref: Annotated[str, Parameter(help="name@version, or ORG/NAME@REVISION of what is on the Hub.")],
    /,
    *,
    root: Root = ROOT,
) -> None:
    """Check that manifest, card and files of an artifact agree; exit code 1 if they do not."""
    from .. import hub
    from ..store.store import Store
    from ..store.verify import verify as verify_artifact
    from . import show as show_
    from . import show_hub

    if "/" in ref:
        with show_hub.Bytes("fetch") as bar:
            wrong = hub.verify(Store(root), ref, progress=bar)
    else:
        wrong = verify_artifact(Store(root), ref)
    show_.verdict(ref, wrong)
    if wrong:
        raise SystemExit(1)


@app.command
def push(
    ref: Ref,
    /,
    *,
    repo: Annotated[str, Parameter(help="ORG/NAME; made where it is not there.")],
    private: Annotated[
        bool, Parameter(negative=(), help="Make it private; a public one is then refused.")
    ] = False,
    dry_run: Annotated[
        bool, Parameter(negative=(), help="Print tree, card and operations, and ask the Hub nothing.")
    ] = False,
    root: Root = ROOT,
) -> None:
    """Publish a dataset or a model on the Hub: one commit, read back, with the tag v<version>."""
    from .. import hub
    from ..store.store import Store
    from . import show_hub

    if dry_run:
        show_hub.plan(hub.plan(Store(root), ref, repo), private)
        return
    with show_hub.Bytes("upload") as bar:
        done = hub.push(Store(root), ref, repo, private=private, progress=bar)
    show_hub.pushed(done)


@app.command
def pull(
    where: Annotated[str, Parameter(help="ORG/NAME, or ORG/NAME@REVISION: a tag or a commit.")],
    /,
    *,
    root: Root = ROOT,
) -> None:
    """Bring a published dataset or model into the store, checked, to build on it."""
    from .. import hub
    from ..store.store import Store
    from . import show_hub

    store = Store(root)
    with show_hub.Bytes("fetch") as bar:
        done = hub.pull(store, where, progress=bar)
    show_hub.pulled(store, done)


def main(argv: list[str] | None = None) -> None:
    """Run a command; exit codes: 0 done, 1 failed, 2 bad usage or input, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    before = 2 if arguments[:1] == ["--root"] else int(bool(arguments) and arguments[0].startswith("--root="))
    if len(arguments) > before:
        arguments = arguments[before:] + arguments[:before]  # verbs take it; it may stand before them too
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except (InputError, CycloptsError) as error:
        _die(2, str(error))
    except KeyboardInterrupt:
        _die(130, "interrupted: what was generated is kept; run the same command to go on")
    except (RuntimeError, OSError, MemoryError) as error:
        _die(
            1, f"{type(error).__name__}: {error}" if isinstance(error, OSError | MemoryError) else str(error)
        )


def _die(code: int, message: str) -> None:
    line = " ".join(message.split())
    print(f"almost-data: {line}", file=sys.stderr)
    raise SystemExit(code)
