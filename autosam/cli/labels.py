"""Commands for labels and for sharing: find bad ones, replace them, publish."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from autosam.cli.options import (
    Json,
    Settings,
    Token,
    application,
    print_json,
    say,
)


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
    start: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--from",
            help="Begin each model with the weights of this one, which must never have seen DATA: "
            "'river-nano' (by default, unless CONFIG or --set say what trains), a run, or 'nothing'.",
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

    resolved = doctor_config(data, config, list(settings or ()), start=start)
    report = examine_labels(resolved, output, folds=folds, token=token, say=say)
    if as_json:
        print_json(report.to_dict())
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
        say=say,
    )
    if as_json:
        print_json(made.to_dict())
    else:
        print(made.sentence())


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
        say=say,
    )
    if as_json:
        print_json(pushed.to_dict())
    else:
        print(pushed.sentence())
