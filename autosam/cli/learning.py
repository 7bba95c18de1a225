"""Commands that train and judge runs."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from autosam.cli.options import (
    CoarseFrom,
    Device,
    Json,
    PromptKind,
    Settings,
    Token,
    application,
    print_json,
    prompt_choice,
    say,
)


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
    finished = train_run(resolved, folder, resume=resume, token=token, say=say)
    if as_json:
        print_json(finished.to_dict())
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
        prompts=prompt_choice(prompt, coarse_from, oracle=oracle),
        clicks=clicks,
        device=device,
        token=token,
        say=say,
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print(result.table())


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
        load_config(config, list(settings or ())), device=device, token=token, say=say
    )
    if as_json:
        print_json(report)
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
        print_json(report.numbers)
    else:
        print(report.text)
