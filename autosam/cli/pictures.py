"""Commands for pictures: mask them, see their prompts."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from autosam.cli.options import (
    CoarseFrom,
    Device,
    Json,
    Model,
    Overwrite,
    PromptKind,
    Runtime,
    Settings,
    Token,
    application,
    band_folders,
    print_json,
    prompt_choice,
    say,
)
from autosam.cli.seeing import Sheet, check_sheet


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
def predict(
    source: Annotated[
        list[str], typer.Argument(help="Pictures, folders or glob patterns to mask.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the masks.")],
    model: Model = "river-nano",
    overwrite: Overwrite = False,
    probability: Annotated[
        bool, typer.Option("--probability", help="Also write the probability, 0..255.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also write the picture with the water tinted.")
    ] = False,
    dihedral: Annotated[
        bool,
        typer.Option("--dihedral", help="Mean of the eight views of each picture: 8 x the work."),
    ] = False,
    sheet: Sheet = None,
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
    runtime: Runtime = None,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Mask pictures: autosam predict PICTURES/ -o MASKS/. Finished ones are skipped, others' files kept."""
    from autosam.recipes.predicting import predict_files
    from autosam.recipes.previews import save_sheet

    check_sheet(sheet)
    results = predict_files(
        model,
        source,
        output,
        overwrite=overwrite,
        probability=probability,
        preview=preview,
        dihedral=dihedral,
        dry_run=dry_run,
        prompts=prompt_choice(prompt, coarse_from),
        band_folders=band_folders(band or ()),
        device=device,
        runtime=runtime,
        token=token,
    )
    if as_json:
        print_json([result.to_dict() for result in results])
    else:
        for result in results:
            print(result.sentence())
    if sheet is not None and not dry_run:
        done = [one.outcome for one in results if one.status in ("written", "finished before")]
        save_sheet(sheet, [(one.source, one.mask) for one in done], say=say)
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


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
    report = draw_prompts(resolved, output, count=count, token=token, say=say)
    if as_json:
        print_json(report)
        return
    on_land, boxes = report["points_on_land"], report["box_iou"]
    points = "" if on_land is None else f", {on_land:.1%} of {report['points']} points on land"
    ignored = report["points_ignored"]
    besides = f", {ignored} more on ignored ground" if ignored else ""
    box = "" if boxes is None else f", box IoU {boxes:.2f}"
    print(f"{output}: {report['source']} on {report['pictures']} pictures{points}{besides}{box}")
