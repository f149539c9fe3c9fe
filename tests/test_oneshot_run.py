"""The trainer of one-shot methods: runs, images, options, checkpoints, errors; for every registered method."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oneshot_helpers import QUICK, TINY, stripes, stripes_training, supernet
from PIL import Image
from safetensors import safe_open
from scipy import stats

from tauzero import benchmarks, spaces
from tauzero.benchmarks import Column, Table
from tauzero.search import oneshot
from tauzero.search.oneshot._data import Images, augmented, load_images
from tauzero.search.oneshot._settings import resolve
from tauzero.spaces import UnknownNameError

CPU = torch.device("cpu")


def quick(method: str, space: str = TINY, **options: Any) -> oneshot.OneShotResult:
    """A run of a second on the digits."""
    shape = {"layers": 3} if space == "darts" else {"cells_per_stage": 1}
    given = {"device": "cpu", "preset": "smoke", **QUICK, **shape, **options}
    return oneshot.run(method, space, given.pop("data", "digits"), **given)


def settings(**options: Any) -> oneshot.Settings:
    """Settings with the defaults of the paper."""
    return oneshot.Settings(**options)


# -- every method -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", oneshot.names())
@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_a_run_of_every_method(name: str, space: str, tmp_path: Path) -> None:
    if space not in oneshot.find(name).spaces:
        pytest.skip("does not search this space")
    told: list[tuple[int, int]] = []
    result = quick(name, space, out=tmp_path, num_images=32, progress=lambda *done: told.append(done))
    home = spaces.get(space)
    assert home.validate(result.genotype[None]).dtype == np.int8
    assert result.arch == home.to_string(result.genotype[None])[0]
    assert told[0][0] == 0
    assert told[-1][0] == result.epochs >= 1
    for row in result.history:
        assert math.isfinite(row["train_loss"])
        assert 0 <= row["train_accuracy"] <= 100
        assert row["seconds"] > 0
        assert row["peak_memory_mb"] > 10
    assert 0 <= result.value <= 100
    assert len(result.ranking.genotypes) == len(np.unique(result.ranking.genotypes, axis=0)) == 3
    assert result.supernet_tau is None
    kept = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert kept == json.loads(json.dumps(result.as_dict()))
    assert kept["best"]["arch"] == result.arch
    assert kept["options"]["channels"] == result.options["channels"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoint.safetensors", "history.parquet", "ranking.parquet", "result.json", "settings.json",
    ]  # fmt: skip


class StoppedError(Exception):
    """Raised where a user would press Ctrl-C."""


def stop_after(epochs: int) -> Any:
    def progress(done: int, total: int) -> None:
        if done == epochs:
            raise StoppedError

    return progress


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    with safe_open(folder / "checkpoint.safetensors", framework="pt") as stored:
        return {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - no mapping


@pytest.mark.parametrize("name", oneshot.names())
def test_a_resumed_run_is_the_same_bit_for_bit(name: str, tmp_path: Path) -> None:
    options = {"epochs": 3, "augment": True, "cutout": 2, "drop_path": 0.2, "num_images": 64, "seed": 4}
    straight = quick(name, out=tmp_path / "straight", **options)
    with pytest.raises(StoppedError):
        quick(name, out=tmp_path / "resumed", progress=stop_after(2), **options)
    resumed = quick(name, out=tmp_path / "resumed", **options)
    a, b = tensors(tmp_path / "straight"), tensors(tmp_path / "resumed")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(key.startswith("generators/") for key in a)
    timeless = [
        [{k: v for k, v in row.items() if k not in {"seconds", "peak_memory_mb"}} for row in result.history]
        for result in (straight, resumed)
    ]
    assert timeless[0] == timeless[1]
    assert straight.genotype.tolist() == resumed.genotype.tolist()
    assert straight.value == resumed.value
    again = quick(name, out=tmp_path / "resumed", **options)  # a finished run is not trained any longer
    assert again.genotype.tolist() == straight.genotype.tolist()
    assert again.seconds == resumed.seconds


def test_seeds_decide() -> None:
    first, same, other = (quick("gdas", seed=seed).history[0]["train_loss"] for seed in (1, 1, 2))
    assert first == same != other


# -- training ---------------------------------------------------------------------------------


def test_learning_rate_and_drop_path_follow_their_schedules() -> None:
    training = stripes_training("rsps", TINY, 0, epochs=4, learning_rate=0.2, learning_rate_min=0.02, drop_path=0.4)
    for position in (0.0, 1.5, 3.75):
        moment = oneshot.Moment(int(position), 4, round(position % 1 * 8), 8)
        training._set_schedule(moment)
        expected = 0.02 + 0.18 * (1 + math.cos(math.pi * position / 4)) / 2
        assert training.weight_optimiser.param_groups[0]["lr"] == pytest.approx(expected)
        assert training.supernet.drop_path == pytest.approx(0.4 * position / 4)


def test_gradients_are_clipped() -> None:
    moved = []
    for clip in (0.0, 1e-3):
        training = stripes_training("darts-v1", TINY, 0, clip=clip, weight_decay=0.0, momentum=0.0, learning_rate=1.0)
        before = [p.detach().clone() for p in training.supernet.parameters()]
        pixels, labels = training.images.train
        training._set_schedule(oneshot.Moment(0, 2, 0, 4))
        training._weights(oneshot.Moment(0, 2, 0, 4), (pixels[:32], labels[:32]))
        steps = [p.detach() - old for p, old in zip(training.supernet.parameters(), before, strict=True)]
        moved.append(float(torch.stack([s.norm() for s in steps]).norm()))
    assert moved[1] == pytest.approx(1e-3, rel=1e-2)
    assert moved[0] > 0.1


def test_loss_of_the_auxiliary_head_counts() -> None:
    net = supernet("darts", channels=4, layers=3, auxiliary=True)
    chosen = oneshot.find("rsps")
    pixels, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    setup = resolve(chosen, type(net), net.space, preset="smoke", options={"auxiliary_weight": 0.4})
    images = Images((pixels, labels), (pixels, labels), 10, "random", augment=False, held_out=True)
    training = oneshot.Training(net, chosen(setup.method), setup.settings, images, seed=0)
    gates = net.all_active(torch.full(net.shape, 0.125))
    logits, second = net.forward_with_auxiliary(pixels, gates)
    expected = [torch.nn.functional.cross_entropy(out, labels) for out in (logits, second)]
    assert torch.allclose(training.loss((pixels, labels), gates), expected[0] + 0.4 * expected[1])
    net.eval()
    assert torch.allclose(
        training.loss((pixels, labels), gates), torch.nn.functional.cross_entropy(net(pixels, gates), labels)
    )


def test_bfloat16() -> None:
    assert math.isfinite(quick("darts-v2", amp=True).history[0]["train_loss"])


def test_accuracies_do_not_depend_on_company() -> None:
    training = stripes_training("rsps", TINY, 0, evaluation_batch=50)
    rows = training.supernet.sample(5, torch.Generator().manual_seed(0))
    together = training.accuracies(rows)
    assert [float(training.accuracies(row[None])[0]) for row in rows] == together.tolist()
    assert training.supernet.training
    pixels, labels = training.images.validation  # 256 images in six parts
    right = [
        (training.supernet(x, training.supernet.one_hot(rows[0])).argmax(1) == y).sum()
        for x, y in zip(pixels.tensor_split(6), labels.tensor_split(6), strict=True)
    ]
    assert together[0] == pytest.approx(100 * int(sum(right)) / 256)
    assert training.best(rows).tolist() == rows[together.argmax()].tolist()


class Joint(oneshot.AlphaMethod):
    """Learns weights and architecture from one loss, first for two epochs, then weights alone for `epochs`."""

    name = "joint"

    @property
    def joint(self) -> bool:
        return self._searching

    def begin(self, supernet: oneshot.Supernet, generator: torch.Generator) -> None:
        super().begin(supernet, generator)
        self._searching = True
        self.positions: list[float] = []

    def gates(self, moment: oneshot.Moment) -> oneshot.Gates:
        return self.supernet.all_active(self.alpha.softmax(-1))

    def architecture_step(self, *args: Any) -> None:
        assert not self._searching

    def epoch_start(self, training: oneshot.Training, epoch: int) -> None:
        if epoch == 2:
            self._searching = False
            training.make_weight_optimiser()

    def schedule(self, position: float, epochs: int) -> float:
        self.positions.append(0.0 if self._searching else (position - 2) / epochs)
        return self.positions[-1]

    def finished(self, epoch: int, epochs: int) -> bool:
        return not self._searching and epoch >= epochs + 2


def test_a_method_of_two_phases() -> None:
    """What ISTA-NAS in one stage needs of the trainer: one loss for both, and a second phase of known length."""
    training = stripes_training("darts-v1", TINY, 0, epochs=2)
    method = Joint()
    training = oneshot.Training(training.supernet, method, training.settings, training.images, seed=0)
    before = method.alpha.detach().clone()
    while training.epoch < 2:
        training._one_epoch()
    searched = method.alpha.detach().clone()
    assert not torch.equal(before, searched)
    training.run(lambda done, total: None)
    assert training.epoch == 4
    assert torch.equal(searched, method.alpha)
    assert min(method.positions) == 0.0
    assert 0.9 < method.positions[-1] < 1.0
    assert [row["architecture_loss"] is None for row in training.history] == [True, True, False, False]


# -- errors -----------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path) -> None:
    with pytest.raises(
        oneshot.NonFiniteLossError, match=r"of rsps became .* in step \d+ of 2 of epoch 1\. No checkpoint"
    ):
        quick("rsps", out=tmp_path, learning_rate=1e30, learning_rate_min=1e30, clip=0.0)
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_loss_that_is_not_finite_leaves_a_checkpoint(tmp_path: Path) -> None:
    training = stripes_training("darts-v1", TINY, 0, folder=tmp_path, epochs=3)
    training._one_epoch()
    kept = (tmp_path / "checkpoint.safetensors").read_bytes()
    training.images.validation[0][:] = math.nan
    with pytest.raises(
        oneshot.NonFiniteLossError, match=r"architecture loss .* became nan in step 1 of 16 of epoch 2"
    ) as told:
        training.run(lambda done, total: None)
    assert str(tmp_path / "checkpoint.safetensors") in str(told.value)
    assert "smaller learning_rate" in str(told.value)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == kept
    fresh = stripes_training("darts-v1", TINY, 0, folder=tmp_path, epochs=3, learning_rate=0.01)
    assert fresh.resume()
    assert fresh.epoch == 1


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    quick("rsps", out=tmp_path)
    with pytest.raises(ValueError, match=r"another run \(weight_decay: 0.0005 there, 0.1 here\)"):
        quick("rsps", out=tmp_path, weight_decay=0.1)
    with pytest.raises(ValueError, match="another run"):
        quick("gdas", out=tmp_path)
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8"))["method"] == "rsps"
    quick("rsps", out=tmp_path, learning_rate=0.01)  # what a run that diverged may change


@pytest.mark.parametrize("cut", [0, 100, -50])
def test_a_damaged_checkpoint_is_told(cut: int, tmp_path: Path) -> None:
    quick("rsps", out=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"checkpoint .* is damaged or no checkpoint .* delete the file"):
        quick("rsps", out=tmp_path)


def test_a_foreign_checkpoint_is_told(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "checkpoint.safetensors", metadata={"tauzero.oneshot": "{}"})
    with pytest.raises(ValueError, match="no checkpoint of a one-shot search"):
        quick("rsps", out=tmp_path)


def test_a_checkpoint_with_parts_missing_is_told(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    quick("darts-v1", out=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    with safe_open(path, framework="pt") as stored:
        metadata = stored.metadata()
    kept = tensors(tmp_path)
    for missing in ("method/parameter0", "supernet/classifier.weight", "generators/order"):
        save_file({key: value for key, value in kept.items() if key != missing}, path, metadata=metadata)
        with pytest.raises(ValueError, match="does not fit the run that it says it is of"):
            quick("darts-v1", out=tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "darts-v"}, UnknownNameError, "one-shot method 'darts-v'.*Did you mean 'darts-v"),
        ({"space": "nasbench101"}, UnknownNameError, "space with a supernet"),
        ({"preset": "quick"}, UnknownNameError, "Known: 'paper', 'smoke'"),
        ({"chanels": 4}, UnknownNameError, "Did you mean 'channels'"),
        ({"tau_max": 1.0}, UnknownNameError, "option of rsps on nasbench201x 'tau_max'"),
        ({"channels": 2.5}, ValueError, "'channels' option must be an integer ≥ 1. Got 2.5"),
        ({"batch_size": 1}, ValueError, "'batch_size' option must be an integer ≥ 2. Got 1"),
        ({"momentum": 1.5}, ValueError, r"'momentum' option must be a number in \[0, 1\]. Got 1.5"),
        ({"learning_rate": math.nan}, ValueError, "'learning_rate' option must be a number ≥ 0"),
        ({"nesterov": 1}, ValueError, "'nesterov' option must be True or False. Got 1"),
        ({"augment": "yes"}, ValueError, "'augment' option must be True or False. Got 'yes'"),
        ({"seed": -1}, ValueError, "'seed' argument must be a non-negative integer. Got -1"),
        ({"device": "gpu7"}, ValueError, "'device' argument must be auto, cpu or cuda. Got 'gpu7'"),
        ({"data": "nowhere.npz"}, ValueError, "'data' file nowhere.npz does not exist"),
        ({"data": "nothing"}, UnknownNameError, "image batch 'nothing'"),
        ({"data": (np.zeros((9, 3, 8, 8), np.float32),)}, ValueError, "must be .* Got an array of shape"),
        ({"data": 5}, ValueError, "'data' argument must be"),
        ({"num_images": 7}, ValueError, "'num_images' option must be an integer ≥ 8. Got 7"),
        ({"image_size": 6}, ValueError, "multiples of 4"),
        ({"validation": 0.0001}, ValueError, "must leave images for both parts"),
    ],
)
def test_wrong_use_is_told_before_anything_is_trained(
    options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    given = {"method": "rsps", "space": TINY, "num_images": 64, **options}
    with pytest.raises(error, match=message):
        quick(given.pop("method"), given.pop("space"), out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_no_gpu_is_told() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="PyTorch sees no GPU here"):
        quick("rsps", device="cuda")


def test_a_table_of_another_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'table' argument must be of darts"):
        quick("rsps", "darts", table=table_of(tmp_path))


# -- images -----------------------------------------------------------------------------------


def test_halves_are_disjoint_and_drawn() -> None:
    pixels = np.arange(40, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 8, 8), dtype=np.float32)
    labels = np.arange(40) % 4
    found = load_images((pixels, labels), settings(validation=0.3), seed=1, multiple=4, device=CPU)
    train, validation = (part[0][:, 0, 0, 0].tolist() for part in (found.train, found.validation))
    assert len(validation) == 12
    assert sorted(train + validation) == list(range(40))
    assert [int(x) % 4 for x in train] == found.train[1].tolist()
    other = load_images((pixels, labels), settings(validation=0.3), seed=2, multiple=4, device=CPU)
    assert other.validation[0][:, 0, 0, 0].tolist() != validation
    whole = load_images((pixels, labels), settings(validation=0.0), seed=1, multiple=4, device=CPU)
    assert len(whole.train[0]) == len(whole.validation[0]) == 40
    assert not whole.held_out
    assert "all 40 for both" in whole.description


def test_larger_images_are_averaged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(10) % 3)
    native = load_images(tmp_path / "images.npz", settings(), seed=0, multiple=4, device=CPU)
    small = load_images(tmp_path / "images.npz", settings(image_size=8), seed=0, multiple=4, device=CPU)
    assert torch.allclose(small.train[0], torch.nn.functional.avg_pool2d(native.train[0], 2), atol=1e-6)
    assert small.augment
    assert "8×8" in small.description
    for size in (12, 32):
        with pytest.raises(ValueError, match=rf"divides the images' own size, 16×16\. Got {size}"):
            load_images(tmp_path / "images.npz", settings(image_size=size), seed=0, multiple=4, device=CPU)
    more = load_images(tmp_path / "images.npz", settings(num_images=11), seed=0, multiple=4, device=CPU)
    assert torch.equal(more.train[0], native.train[0])


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", images=np.zeros((10, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(ValueError, match="must have labels"):
        load_images(tmp_path / "images.npz", settings(), seed=0, multiple=4, device=CPU)


def test_folders_of_pictures(tmp_path: Path) -> None:
    for k in range(12):
        folder = tmp_path / f"class{k % 3}"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (20, 16), (20 * k, 0, 0)).save(folder / f"{k}.png")
    found = load_images(tmp_path, settings(image_size=8), seed=0, multiple=4, device=CPU)
    assert found.train[0].shape == (6, 3, 8, 8)
    assert found.num_classes == 3


def test_real_cifar10(shared_data: Path) -> None:
    found = load_images(
        shared_data / "cifar10" / "cifar10_jpeg.npz", settings(num_images=200, image_size=16), seed=0, multiple=4,
        device=CPU,
    )  # fmt: skip
    assert found.train[0].shape == (100, 3, 16, 16)
    assert "200 of 50000 training images stored as JPEG (lossy)" in found.description
    assert abs(float(found.train[0].mean())) < 0.3


def test_cutout() -> None:
    images = Images((torch.zeros(1), torch.zeros(1)), (torch.zeros(1), torch.zeros(1)), 1, "", False, True)
    batch = torch.ones(400, 3, 8, 8)
    cut = augmented(batch, images, 4, torch.Generator().manual_seed(0))
    assert torch.equal(batch, torch.ones_like(batch))
    holes = (cut == 0).flatten(2).sum(-1)
    assert torch.equal(holes[:, 0], holes[:, 2])
    assert int(holes.max()) == 16
    assert int(holes.min()) == 4  # a corner: the middle at (0, 0) reaches two pixels each way, and none before
    assert (cut[:, :, 3, 3] == 0).float().mean() == pytest.approx(16 / 64, abs=0.08)


# -- options and tables -----------------------------------------------------------------------


@pytest.mark.parametrize("name", oneshot.names())
def test_presets_are_complete(name: str) -> None:
    """Every key of a preset is an option of some space, and every preset can be resolved."""
    chosen = oneshot.find(name)
    known: set[str] = set()
    for kind in chosen.spaces:
        space = spaces.get(kind)
        family = oneshot.supernet_class(space)
        for preset in ("paper", "smoke"):
            known |= resolve(chosen, family, space, preset=preset, options={}).plain().keys()
    for preset in chosen.presets.values():
        for options in preset.values():
            assert options.keys() <= known


def test_published_hyper_parameters() -> None:
    """AutoDL-Projects' files; those that the text of the presets names."""
    found = {}
    for name in ("rsps", "darts-v1", "darts-v2", "gdas", "setn", "enas", "pc-darts"):
        space = spaces.get("nasbench201")
        plain = resolve(oneshot.find(name), oneshot.supernet_class(space), space, preset="paper", options={}).plain()
        assert (plain["channels"], plain["cells_per_stage"], plain["affine"]) == (16, 5, False)
        found[name] = tuple(
            plain[key] for key in ("epochs", "batch_size", "learning_rate", "architecture_learning_rate")
        )
    assert found == {
        "rsps": (250, 64, 0.025, 3e-4),
        "darts-v1": (50, 64, 0.025, 3e-4),
        "darts-v2": (50, 64, 0.025, 3e-4),
        "gdas": (240, 64, 0.025, 3e-4),
        "setn": (250, 64, 0.025, 3e-4),
        "enas": (310, 128, 0.05, 1e-3),
        "pc-darts": (50, 256, 0.1, 6e-4),
    }


def table_of(folder: Path) -> benchmarks.Benchmark:
    """A made-up table of NAS-Bench-201 with two data sets."""
    space = spaces.get("nasbench201")
    rows = space.enumerate()
    gains = np.array([0.0, 1.0, 3.0, 5.0, 0.5])[rows].sum(axis=1)
    columns = [
        Column(dataset, metric, 200, None, "percent", values)
        for dataset, values in (("cifar10", 60 + gains), ("cifar100", 40 + gains))
        for metric in ("validation_accuracy", "test_accuracy")
    ]
    table = Table("nasbench201", "nasbench201", tuple(columns), "test licence", {"reader": "test"})
    benchmarks.write_store(table, folder / "table.arrow")
    return benchmarks.load("nasbench201", folder / "table.arrow")


def test_truth_and_tau_from_a_table(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    result = quick("rsps", "nasbench201", table=table, ranked=12)
    everyone = table.table("cifar10", "test_accuracy")
    value = float(table.query(result.genotype[None], dataset="cifar10", metric="test_accuracy")[0])
    assert result.truth["cifar10"] == {
        "validation_accuracy": value,
        "test_accuracy": value,
        "rank": 1 + int((everyone > value).sum()),
        "of": 15_625,
    }
    assert result.truth["cifar100"]["test_accuracy"] == pytest.approx(value - 20)
    assert result.as_dict()["best"]["rank"] == result.truth["cifar10"]["rank"]
    ranking = result.ranking
    truth = table.query(ranking.genotypes, dataset="cifar10", metric="test_accuracy")
    assert np.array_equal(ranking.truth, truth)
    assert result.supernet_tau == pytest.approx(stats.kendalltau(ranking.scores, truth).statistic)
    assert result.frame().shape[0] == 1


def test_ranking_on_some_images() -> None:
    result = quick("rsps", ranked=4, ranked_images=10)
    assert (result.ranking.scores * 10 % 100 == pytest.approx(0.0)) or set(result.ranking.scores % 10) == {0.0}
    assert quick("rsps", ranked=0).ranking.genotypes.shape == (0, 3)


def test_stripes_look_the_same_pixel_by_pixel() -> None:
    """The task of the evidence tests: only neighbours tell the classes apart."""
    images, labels = stripes(60, 0)
    assert set(labels.tolist()) == {0, 1, 2}
    assert (images.mean(dim=(2, 3)) == 0).all()


def test_documentation_lists_every_method() -> None:
    text = (Path(__file__).resolve().parents[1] / "docs" / "oneshot.md").read_text(encoding="utf-8")
    section = text.split("\n## Methods\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE) == oneshot.names()
