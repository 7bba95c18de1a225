"""Arguments to recipe to text; nothing else. Heavy packages are imported by the command that needs them."""

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from autosam.errors import AutoSamError, PromptMismatchWarning

application = typer.Typer(
    name="autosam",
    help="River masks from aerial pictures, with no prompts. Start with: autosam demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# typer brings click under its own name since 0.20; its exceptions are found through what it exports.
_CommandLineError: Any = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Token = Annotated[
    Optional[str],  # noqa: UP045 - typer reads this at run time on Python 3.10
    typer.Option(
        help="For private repositories; else HF_TOKEN or `hf auth login`.", show_default=False
    ),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", help="Change a setting, e.g. --set train.epochs=5. May be repeated."),
]
Device = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="cuda, mps or cpu; the best there is by default.", show_default=False),
]


PromptKind = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Other prompts than the run's: points, box, both, mask, null or full-box.",
        show_default=False,
    ),
]
CoarseFrom = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="RUN", help="Make the prompts from this run's masks.", show_default=False),
]


def run(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 some pictures failed, 2 a mistake to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", PromptMismatchWarning)
        warnings.showwarning = _say_warning
        return _run(arguments)


def _run(arguments: list[str] | None) -> int:
    try:
        code = application(args=arguments, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except AutoSamError as error:
        _say_error(" ".join(str(error.args[-1] if error.args else error).split()))
        return 2
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        _say_error("stopped.")
        return 130
    except _CommandLineError as error:
        _say_error(f"{error.format_message()} See: autosam --help")
        return 2
    except KeyboardInterrupt:
        _say_error("stopped. What was finished is kept; run again to go on.")
        return 130


def _say_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"autosam: warning: {message}", file=sys.stderr)


def _say_error(message: str) -> None:
    print(f"autosam: {message}", file=sys.stderr)


def _prompt_choice(
    kind: str | None, coarse_from: str | None, *, oracle: bool = False
) -> Any:  # PromptChoice, whose room is imported with the command
    if kind is None and coarse_from is None and not oracle:
        return None
    from autosam.recipes.prompting import PromptChoice

    return PromptChoice(kind=kind, coarse_from=coarse_from, oracle=oracle)


def _band_folders(pairs: Sequence[str]) -> dict[str, Path]:
    """NAME=FOLDER, as a mapping."""
    from autosam.errors import ConfigError

    folders = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not (name and equals and folder):
            raise ConfigError(f"--band must be NAME=FOLDER, got {pair!r}. Try --band nir=FOLDER.")
        folders[name] = Path(folder)
    return folders


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, allow_nan=False))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@application.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from autosam import __version__

        print(__version__)
        raise typer.Exit


@application.command()
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for what it makes.")
    ] = Path("autosam-demo"),
    train: Annotated[
        bool, typer.Option("--train", help="Train a small model of its own first: two minutes.")
    ] = False,
    scenes: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="River scenes to draw: 8, or 40 with --train.", min=1),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Of --train, over its scenes.", min=1)] = 24,
) -> None:
    """See it work, offline, in seconds: draw river scenes and mask them with river-nano."""
    from autosam.recipes.demonstration import run_demo, run_training_demo

    if train:
        run_training_demo(output, scenes=scenes or 40, epochs=epochs, say=print)
    else:
        run_demo(output, scenes=scenes or 8, say=print)


@application.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML file of differences from the defaults.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="Folder of the run; runs/<name of CONFIG> by default."),
    ] = None,
    settings: Settings = None,
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from",
            help="Fine-tune: begin with this model's weights, and take over its method, SAM and prompt "
            "network. 'river-nano' (installed with autosam) or the folder of a run.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the run in this folder was cut off.")
    ] = False,
    time_limit: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Seconds to train at most (train.time_limit).", min=1),
    ] = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Train a run: autosam train rivers.yaml --from river-nano --set train.epochs=20.

    On several GPUs: accelerate launch -m autosam train CONFIG.
    """
    from autosam.config import load_config
    from autosam.recipes.training import starting_overrides, train_run

    overrides = [*(starting_overrides(start) if start else ()), *(settings or ())]
    if time_limit is not None:
        overrides.append(f"train.time_limit={time_limit}")
    resolved = load_config(config, overrides)
    folder = output or Path("runs") / config.stem
    finished = train_run(resolved, folder, resume=resume, token=token, say=_say)
    if as_json:
        _print_json(finished.to_dict())
    elif finished.is_main_process:
        print(finished.sentence())


@application.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="Folder; RUN/evaluation/<split> by default."),
    ] = None,
    data: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="Judge on all labelled pictures of this folder instead of the run's split. "
            "May be repeated."
        ),
    ] = None,
    group_by: Annotated[
        str, typer.Option(help="Regular expression on the names; a table row per group.")
    ] = "",
    prompt: PromptKind = None,
    coarse_from: CoarseFrom = None,
    oracle: Annotated[
        bool,
        typer.Option("--oracle", help="Prompt from the true masks: an upper bound, no result."),
    ] = False,
    clicks: Annotated[
        int,
        typer.Option(
            help="Also judge up to this many clicks of a simulated person (an oracle), at most 20.",
            min=0,
            max=20,
        ),
    ] = 0,
    device: Device = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Judge a run on pictures it never trained on: scores, tables, plots and masks."""
    from autosam.recipes.evaluating import evaluate_run

    result = evaluate_run(
        run_folder,
        split=split,
        output=output,
        data=data or (),
        group_by=group_by,
        prompts=_prompt_choice(prompt, coarse_from, oracle=oracle),
        clicks=clicks,
        device=device,
        token=token,
        say=_say,
    )
    if as_json:
        _print_json(result.to_dict())
    else:
        print(result.table())


@application.command()
def predict(
    source: Annotated[
        list[str], typer.Argument(help="Pictures, folders or glob patterns to mask.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the masks.")],
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            help="'river-nano', installed with autosam; the folder of a run, or owner/name on the hub.",
        ),
    ] = "river-nano",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Mask again what is finished.")
    ] = False,
    probability: Annotated[
        bool, typer.Option("--probability", help="Also write the probability, 0..255.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also write the picture with the water tinted.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; read and write nothing.")
    ] = False,
    prompt: PromptKind = None,
    coarse_from: CoarseFrom = None,
    band: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="NAME=FOLDER of a band that the run reads, e.g. nir=orthos-nir; by default the folder "
            "NAME beside the pictures' folder. May be repeated."
        ),
    ] = None,
    device: Device = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Mask pictures: autosam predict PICTURES/ -o MASKS/. Finished ones are skipped."""
    from autosam.recipes.predicting import predict_files

    results = predict_files(
        model,
        source,
        output,
        overwrite=overwrite,
        probability=probability,
        preview=preview,
        dry_run=dry_run,
        prompts=_prompt_choice(prompt, coarse_from),
        band_folders=_band_folders(band or ()),
        device=device,
        token=token,
    )
    if as_json:
        _print_json([result.to_dict() for result in results])
    else:
        for result in results:
            print(result.sentence())
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


@application.command()
def embed(
    config: Annotated[Path, typer.Argument(help="YAML file of differences from the defaults.")],
    settings: Settings = None,
    device: Device = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Encode every image of a configuration once, so that training starts from the cache."""
    from autosam.config import load_config
    from autosam.recipes.encoding import embed_data

    report = embed_data(
        load_config(config, list(settings or ())), device=device, token=token, say=_say
    )
    if as_json:
        _print_json(report)
    else:
        print(
            f"{report['written']} embeddings written, {report['reused']} were there, "
            f"{report['seconds']:.1f} s, in {report['directory']}"
        )


@application.command()
def splits(
    names: Annotated[Path, typer.Option(help="Text file of sample names, one a line.")],
    holdout: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Text file of names that are held out of NAMES."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="published (needs --holdout), blocked, by-date or grouped.")
    ] = "published",
    group_by: Annotated[
        str, typer.Option(help="For grouped: regular expression on the name.")
    ] = "",
    seed: Annotated[int, typer.Option(help="For grouped.")] = 0,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="Write the split's names as JSON."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Divide names into train, validation and test, and say how much the held-out ones leak."""
    from autosam.recipes.splitting import split_names

    report = split_names(
        names, holdout=holdout, kind=kind, group_by=group_by, seed=seed, output=output
    )
    if as_json:
        _print_json(report.numbers)
    else:
        print(report.text)


@application.command()
def info(
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="Folder of a run; without it, the installation and its cache."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a run holds, or what is installed and what the cache holds."""
    from autosam.recipes.inspecting import describe_installation, describe_run

    values = describe_installation() if model is None else describe_run(model)
    if as_json:
        _print_json(values)
    else:
        import yaml

        print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


@application.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: package pairs, devices, number formats, disk, cache, and that training learns."""
    from autosam.recipes.inspecting import examine

    findings = examine()
    if as_json:
        _print_json([finding.to_dict() for finding in findings])
    else:
        for finding in findings:
            print(finding.sentence())
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


@application.command(name="config")
def show_config(
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(help="A YAML file to resolve; without it, every default with its meaning."),
    ] = None,
    settings: Settings = None,
) -> None:
    """Print every setting with its default and meaning, or a file with its defaults filled in."""
    from autosam.config import dump_config, load_config, reference_yaml

    if config is None and not settings:
        print(reference_yaml(), end="")
    else:
        print(dump_config(load_config(config, list(settings or ()))), end="")


@application.command()
def labels(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labelled pictures: a folder with images/ and masks/, or a hub id."
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the report.")],
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "-c", "--config", help="YAML file of what to train; a small AutoSAM by default."
        ),
    ] = None,
    folds: Annotated[int, typer.Option(help="Models to train, each on all but a part.")] = 3,
    settings: Settings = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Find wrong labels: rank all by what models say that never saw them, and name the likely fault.

    Pictures of one place must stay together: say how with --set data.group_by='^[^_]+'. A command that
    was cut off goes on when it is given again.
    """
    from autosam.recipes.label_doctor import doctor_config, examine_labels

    resolved = doctor_config(data, config, list(settings or ()))
    report = examine_labels(resolved, output, folds=folds, token=token, say=_say)
    if as_json:
        _print_json(report.to_dict())
    else:
        print(report.table())


@application.command()
def relabel(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run; gives the configuration.")
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labelled pictures: a folder with images/ and masks/, or a hub id."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the new dataset; never DATA itself.")
    ],
    folds: Annotated[int, typer.Option(help="Models to train, each on all but a part.")] = 3,
    minimum_area: Annotated[
        float,
        typer.Option(help="Smallest predicted patch that stays, in pixels of a 256 x 256 picture."),
    ] = 12.0,
    review: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A review.csv with your decisions: build from these, train nothing."),
    ] = None,
    group_by: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Regular expression on the names, in place of the run's data.group_by."),
    ] = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Write a dataset with better labels: keep, replace or put aside each by what models say of it.

    Every model is trained on pictures other than those it judges. Look at OUTPUT/review.png, change the
    column decision (keep, replace, look) of OUTPUT/review.csv, and build again with --review.
    """
    from autosam.recipes.relabelling import relabel as relabel_data

    made = relabel_data(
        run_folder,
        data,
        output,
        folds=folds,
        minimum_area=minimum_area,
        review=review,
        group_by=group_by,
        token=token,
        say=_say,
    )
    if as_json:
        _print_json(made.to_dict())
    else:
        print(made.sentence())


@application.command()
def prompts(
    config: Annotated[Path, typer.Argument(help="YAML file of differences from the defaults.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="PNG to draw; its numbers go beside it as JSON.")
    ] = Path("prompts.png"),
    count: Annotated[int, typer.Option(help="Pictures to draw.", min=1)] = 8,
    settings: Settings = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Draw the prompts that a decoder would get, automatic and oracle, and say how right they are."""
    from autosam.config import load_config
    from autosam.recipes.prompt_sheets import draw_prompts

    resolved = load_config(config, list(settings or ()))
    report = draw_prompts(resolved, output, count=count, token=token, say=_say)
    if as_json:
        _print_json(report)
        return
    on_land, boxes = report["points_on_land"], report["box_iou"]
    points = "" if on_land is None else f", {on_land:.1%} of {report['points']} points on land"
    box = "" if boxes is None else f", box IoU {boxes:.2f}"
    print(f"{output}: {report['source']} on {report['pictures']} pictures{points}{box}")


@application.command()
def push(
    source: Annotated[
        Path, typer.Argument(help="A finished run, images/ with masks/, or a dataset's folder.")
    ],
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="Where to, on the hub; made if need be.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Only those whom you let may see it.")
    ] = False,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="For a run: the SAM goes along.")
    ] = False,
    split: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="For a dataset: a split manifest that divides it."),
    ] = None,
    licence: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="For a dataset: the hub's word for its licence, e.g. cc-by-4.0."),
    ] = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Upload a run or a dataset to the hub: autosam push runs/rivers OWNER/NAME.

    A dataset becomes parquet files with the columns image, label, name and perhaps valid, and a card. JPEG
    files go up as they are, with the place and camera that they may tell.
    """
    from autosam.recipes.publishing import push as push_folder

    pushed = push_folder(
        source,
        repository,
        private=private,
        bundle=bundle,
        split=split,
        licence=licence,
        token=token,
        say=_say,
    )
    if as_json:
        _print_json(pushed.to_dict())
    else:
        print(pushed.sentence())
