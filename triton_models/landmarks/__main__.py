"""`python -m triton_models.landmarks`: everything about the release `landmarks`, step by step.

views ../shared/photos/landmarks WORK --segmentation segmentation.onnx
folds ../shared/photos/landmarks WORK          five folds, three times with another seed
strangers ../shared/photos/landmarks WORK      each site left out in turn
ablation ../shared/photos/landmarks WORK
evaluate ../shared/photos/landmarks WORK --out RESULTS.json
release ../shared/photos/landmarks WORK OUT --segmentation segmentation.onnx --results RESULTS.json
fold-releases ../shared/photos/landmarks WORK OUT --segmentation segmentation.onnx
card ../shared/photos/landmarks WORK OUT --segmentation segmentation.onnx --results RESULTS.json
    --away AWAY.json --scenes SCENES.json      with what it said of pictures from cameras
"""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.progress import track

from triton_models.landmarks import card, evaluation, heldout, releasing, study
from triton_models.landmarks.photographs import FOLDS, read_photographs
from triton_models.landmarks.study import Study
from triton_models.landmarks.views import make_views
from triton_models.release.release import ATTRIBUTIONS, MODEL_CARD

Photos = Annotated[Path, typer.Argument(help="The folder with metadata.csv and the photographs.")]
Work = Annotated[Path, typer.Argument(help="Where views, answers and networks are kept.")]
Segmentation = Annotated[Path, typer.Option(help="segmentation.onnx, its JSON file beside it.")]

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.callback()
def one_thread(threads: Annotated[int, typer.Option(help="Cores to use.")] = 1) -> None:
    """Set the number of threads. Results depend on it."""
    torch.set_num_threads(threads)


@app.command()
def views(
    photos: Photos,
    work: Work,
    segmentation: Segmentation,
    count: Annotated[int, typer.Option(help="Views of each photograph.")] = 10,
) -> None:
    """Compute views of every photograph, with their feature maps and class maps."""
    pixels = read_photographs(photos).pixels()
    for _ in track(make_views(pixels, segmentation, count, work / "views"), total=count):
        pass


@app.command()
def folds(photos: Photos, work: Work) -> None:
    """Answer each photograph by networks trained on the four other folds."""
    s = Study.open(photos, work)
    splits = s.splits(s.photographs.folds())
    for seed in heldout.SEEDS:
        found = s.no_answers()
        for fold, (rows, held_out) in enumerate(track(splits, description=f"seed {seed}")):
            members = s.members(rows, seed)
            found.fill(held_out, s.ask(members, rows, held_out))
            if seed == heldout.SEEDS[0]:
                torch.save(members, work / f"fold_{fold}.pt")
        found.save(work / f"folds_{seed}.npz")


@app.command()
def strangers(photos: Photos, work: Work) -> None:
    """Answer the photographs of each site by networks trained without the site."""
    s = Study.open(photos, work)
    found = s.no_answers()
    for rows, held_out in track(s.splits(s.photographs.sites[s.photographs.place])):
        found.fill(held_out, s.ask(s.members(rows, heldout.SEEDS[0]), rows, held_out))
    found.save(work / "strangers.npz")


@app.command()
def ablation(photos: Photos, work: Work) -> None:
    """Answer by single networks in the same folds: without segmentation, fusion or scenes."""
    s = Study.open(photos, work)
    jobs = [(name, recipe, seed) for seed in heldout.SEEDS for name, recipe in study.ABLATION]
    said = {
        f"{name}, seed {seed}": s.held_out_places(recipe, seed)
        for name, recipe, seed in track(jobs)
    }
    np.savez(work / "ablation.npz", **said)  # type: ignore[arg-type]


@app.command()
def evaluate(
    photos: Photos,
    work: Work,
    out: Annotated[Path, typer.Option(help="The figures (JSON); the answers go beside it (CSV).")],
) -> None:
    """Evaluate the answers of `folds`, `strangers` and `ablation`."""
    figures = evaluation.results(Study.open(photos, work), work, out.with_suffix(".csv"))
    out.write_text(json.dumps(figures, indent=1) + "\n")
    typer.echo(f"{out}: written")


@app.command()
def release(
    photos: Photos,
    work: Work,
    out: Annotated[Path, typer.Argument(help="The release directory to write.")],
    segmentation: Segmentation,
    results: Annotated[Path, typer.Option(help="What `evaluate` wrote, for the model card.")],
    version: int = 3,
) -> None:
    """Train on all photographs, calibrate on the held-out answers, and write the release."""
    s = Study.open(photos, work)
    every = np.arange(len(s.photographs))
    members = s.members(every, heldout.SEEDS[0])
    written = releasing.write(s, work, members, out, segmentation, results, version)
    typer.echo(f"{written.directory}: {written.digest}")


@app.command()
def fold_releases(
    photos: Photos,
    work: Work,
    out: Annotated[Path, typer.Argument(help="Where the five release directories go.")],
    segmentation: Segmentation,
) -> None:
    """Write a release of each fold's networks, to test on photographs they were not trained on."""
    s = Study.open(photos, work)
    for written in track(releasing.write_folds(s, work, out, segmentation), total=FOLDS):
        typer.echo(f"{written.directory}: {written.digest}")


@app.command("card")
def model_card(
    photos: Photos,
    work: Work,
    out: Annotated[Path, typer.Argument(help="The release directory.")],
    segmentation: Segmentation,
    results: Annotated[Path, typer.Option(help="What `evaluate` wrote.")],
    away: Annotated[Path, typer.Option(help="What `benchmarks.landmarks` wrote.")],
    scenes: Annotated[Path, typer.Option(help="What `benchmarks.landmark_scenes` wrote.")],
) -> None:
    """Write the model card again, with what the release itself said of pictures from cameras."""
    maps = json.loads(segmentation.with_suffix(".json").read_text())
    figures, camera, scene = (json.loads(path.read_text()) for path in (results, away, scenes))
    figures |= {
        name: camera[name] for name in ("camera", "camera_squashed", "camera_at_known_places")
    }
    figures["camera_scenes"] = scene
    study = Study.open(photos, work)
    (out / MODEL_CARD).write_text(card.text(study, figures, maps))
    (out / ATTRIBUTIONS).write_text(card.attributions(study, maps))
    typer.echo(f"{out / MODEL_CARD}: written")


if __name__ == "__main__":
    app()
