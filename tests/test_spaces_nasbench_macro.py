"""NAS-Bench-Macro: published records, equal networks, networks equal to a slow reference; chains of layers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tauzero import networks, proxies, spaces
from tauzero.spaces import InvalidGenotypeError, LayerChain, NASBenchMacro, NotEnumerableError, UnknownNameError

SPACE = spaces.get("nasbench_macro")
assert isinstance(SPACE, NASBenchMacro)
#: Parameters and FLOPs of records of ``nas-bench-macro_cifar10.json`` (github.com/xiusu/NAS-Bench-Macro, Apache-2.0;
#: the copy in mingkai-zheng/GENIUS at 969d4f9).
RECORDS = {
    "02012100": (890_666, 47_327_744),
    "11111221": (2_181_386, 65_012_224),
    "00011110": (1_118_378, 31_390_208),
    "10220212": (2_211_722, 64_287_232),
    "10000011": (1_203_722, 24_932_864),
    "22220212": (2_285_674, 85_053_952),
    "22222200": (1_269_610, 79_266_304),
    "01011000": (622_186, 27_472_384),
    "22120000": (720_554, 51_012_096),
    "02212000": (847_658, 52_605_440),
    "00100110": (942_442, 22_669_824),
}
ROWS = np.concatenate([SPACE.from_string(["00000000", "22222222", "10220212", "01011000"]), SPACE.sample(3, seed=0)])


def trained(arch: str) -> str:
    """The network that the authors trained for a key, written out from the definition."""
    stages = [arch[:2], arch[2:5], arch[5:]]
    return "".join(s[0] + s[1:].replace("0", "") + "0" * s[1:].count("0") for s in stages)


# -- published facts --------------------------------------------------------------------------


def test_costs_are_those_of_published_records() -> None:
    parameters, flops = SPACE.costs(SPACE.from_string(list(RECORDS)))
    assert list(zip(parameters.tolist(), flops.tolist(), strict=True)) == list(RECORDS.values())
    assert networks.count_flops(SPACE, SPACE.from_string(["10220212"])).tolist() == [64_287_232]


def test_all_strings_in_order() -> None:
    assert SPACE.to_string(SPACE.enumerate()) == ["".join(digits) for digits in itertools.product("012", repeat=8)]


def test_canonical_rows_are_what_was_trained() -> None:
    everything = SPACE.enumerate()
    assert SPACE.to_string(SPACE.canonical(everything)) == [trained(arch) for arch in SPACE.to_string(everything)]
    assert len(np.unique(SPACE.classes())) == 3_969
    assert len(np.unique(SPACE.classes("string"))) == 6_561
    parameters, flops = SPACE.costs(everything)
    same = SPACE.costs(SPACE.canonical(everything))
    assert (parameters == same[0]).all()
    assert (flops == same[1]).all()


def test_a_stage_s_first_identity_is_a_convolution() -> None:
    graphs = SPACE.graphs(SPACE.from_string(["00000000"]))
    names = [spaces.OPERATIONS[code] for code in graphs.ops[0]]
    assert [k - 1 for k, name in enumerate(names) if name == "conv_1x1"] == [0, 2, 5]
    assert SPACE.vertex_widths(graphs)[0].tolist() == [1 / 8, 1 / 4, 1 / 4, *[1 / 2] * 3, *[1] * 4]


@pytest.mark.parametrize("text", ["0000000", "000000000", "0000000３", "0000 000", "3" * 8])
def test_other_strings(text: str) -> None:
    with pytest.raises(InvalidGenotypeError, match="Expected eight digits"):
        SPACE.from_string([text])


# -- networks ---------------------------------------------------------------------------------


def images(size: int = 32, number: int = 2) -> Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def reference_forward(row: list[int], weights: list[Tensor], x: Tensor, counted: list[int]) -> Tensor:
    """The published forward pass written out, taking weights in the order in which they are used.

    Appends the multiply-adds of each convolution and of the classifier to `counted`.
    """
    left = iter(weights)

    def conv_norm(x: Tensor, stride: int = 1, *, depthwise: bool = False, relu: bool = True) -> Tensor:
        weight, scale, shift = next(left), next(left), next(left)
        groups = x.shape[1] if depthwise else 1
        y = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        counted.append(weight.numel() * y.shape[2] * y.shape[3])
        mean = y.mean(dim=(0, 2, 3), keepdim=True)
        variance = ((y - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        y = (y - mean) / torch.sqrt(variance + 1e-5) * scale[:, None, None] + shift[:, None, None]
        return y.clamp(min=0) if relu else y

    x = conv_norm(x)
    for k, op in enumerate(row):
        stride = 2 if k in {0, 2, 5} else 1
        if op:
            inside = conv_norm(conv_norm(conv_norm(x), stride, depthwise=True), relu=False)
            x = inside if stride == 2 else inside + x
        elif stride == 2:
            x = conv_norm(x, 2, relu=False)
    x = conv_norm(x).mean(dim=(2, 3))
    weight, bias = next(left), next(left)
    assert next(left, None) is None
    counted.append(weight.numel())
    return x @ weight.T + bias


@pytest.mark.parametrize("row", ROWS, ids=lambda row: SPACE.to_string(row[None])[0])
def test_built_network_equals_the_slow_reference_and_the_counts(row: np.ndarray) -> None:
    network = networks.build(SPACE, row, seed=3, dtype=torch.float64, channels=8)
    weights = list(network.parameters())
    assert sum(p.numel() for p in weights) == networks.count_parameters(SPACE, row[None], channels=8)[0]
    counted: list[int] = []
    with torch.no_grad():
        expected = reference_forward(row.tolist(), weights, images(), counted)
        logits = network(images())
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-12)
    assert sum(counted) == networks.count_flops(SPACE, row[None], channels=8)[0]


def test_published_shape() -> None:
    network = networks.build(SPACE, ROWS[2], seed=0)
    assert sum(p.numel() for p in network.parameters()) == RECORDS["10220212"][0]
    seen: list[tuple[int, ...]] = []
    for block in network.blocks():
        block.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:])))
    x = images(16).float()
    assert network(x).shape == (2, 10)
    assert seen == [(64, 8, 8), *[(128, 4, 4)] * 2, *[(256, 2, 2)] * 3]  # two of the eight layers are no block
    assert network.feature_map(x).shape == (2, 1280, 2, 2)
    assert network.features(x).shape == (2, 1280)


def test_proxies_are_those_of_the_layers_that_are_there() -> None:
    """Equal networks have equal scores, and identities none of their own."""
    rows = SPACE.from_string(["10220102", "10220120", "22222222"])
    names = ["synflow", "nwot", "az_trainability", "az_progressivity", "depth", "params"]
    quick = {"batch": "digits", "batch_size": 8, "image_size": 16, "device": "cpu", "channels": 4}
    scores = proxies.score(SPACE, rows, names, seed=0, **quick)
    assert np.isfinite(scores[names].to_numpy()).all()
    assert (scores["az_trainability"] > -100).all()  # an identity would have a million
    np.testing.assert_array_equal(scores[names].iloc[0], scores[names].iloc[1])
    assert scores["depth"].tolist() == [18.0, 18.0, 27.0]


def test_all_modules_are_called_once_and_have_gradients() -> None:
    network = networks.build(SPACE, ROWS[1], seed=0, channels=8)
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Linear)
    layers = [m for m in network.modules() if isinstance(m, kinds)]
    called: list[nn.Module] = []
    for layer in layers:
        layer.register_forward_hook(lambda module, *_: called.append(module))
    network(images().float()).square().sum().backward()
    assert called == layers
    assert all(p.grad is not None for p in network.parameters())
    assert [len([m for m in layers if isinstance(m, kind)]) for kind in kinds] == [26, 26, 18, 1]
    bare = networks.build(SPACE, ROWS[1], seed=0, channels=8, batch_norm=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in bare.modules())


# -- chains of layers -------------------------------------------------------------------------


class Mixed(LayerChain):
    """Layers with different numbers of choices."""

    name = "mixed"
    layers = (("conv_1x1", "conv_3x3"), ("skip_connect", "conv_1x1", "conv_3x3"), ("conv_3x3", "skip_connect"))

    def canonical(self, genotypes: object, notion: str | None = None) -> spaces.Genotypes:
        """The last skip connection changes nothing that the first would not."""
        rows = super().canonical(genotypes, notion)
        both = (rows[:, 1] == 0) & (rows[:, 2] == 0)
        rows[both, 1], rows[both, 2] = 2, 1
        return rows


class Long(LayerChain):
    """Too many chains for one array."""

    name = "long"
    layers = (("block", "block_wide", "skip_connect"),) * 20


def test_what_follows_from_the_layers() -> None:
    space = Mixed()
    assert (space.cardinalities, space.size, space.enumerable) == ((2, 3, 2), 12, True)
    assert space.graph_operations == ("conv_1x1", "conv_3x3", "skip_connect")
    assert space.enumerate().tolist() == [list(row) for row in itertools.product(range(2), range(3), range(2))]
    assert space.index(space.enumerate()).tolist() == list(range(12))
    assert space.to_string([[1, 0, 1]]) == ["conv_3x3>skip_connect>skip_connect"]
    assert space.from_string([" conv_3x3 > conv_1x1>conv_3x3"]).tolist() == [[1, 1, 0]]
    graph = space.graphs([[1, 0, 1]])
    assert [spaces.OPERATIONS[code] for code in graph.ops[0]][1:-1] == ["conv_3x3", "skip_connect", "skip_connect"]
    assert np.argwhere(graph.adjacency[0]).tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]


def test_classes_and_neighbors_go_by_canonical() -> None:
    space = Mixed()
    labels = space.classes()
    assert len(np.unique(labels)) == 10
    a, b = space.index([[0, 0, 0], [0, 2, 1]])
    assert labels[a] == labels[b]
    assert (space.neighbors([0, 0, 0]) == [0, 2, 1]).all(axis=1).sum() == 0
    assert len(space.neighbors([0, 0, 0])) == 4
    assert len(space.distinct(space.enumerate())[0]) == 10


def test_a_long_chain_is_not_enumerated() -> None:
    space = Long()
    assert space.size == 3**20
    assert not space.enumerable
    rows = space.sample(200, 0)
    assert [np.bincount(rows[:, k], minlength=3).min() > 40 for k in range(20)] == [True] * 20
    for call in (space.enumerate, space.classes, lambda: space.index(rows)):
        with pytest.raises(NotEnumerableError, match=r"long has about 3.5e"):
            call()


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ((), ValueError, "are empty"),
        (("conv_1x1", "conv_3x3"), ValueError, "Layer 0 .* must be a tuple of 2 to 127"),
        ((("conv_1x1",),), ValueError, "Layer 0"),
        ((("conv_1x1", "conv_1x1"),), ValueError, "different operations"),
        ((("conv_1x1", "conv_4x4"),), UnknownNameError, "Unknown operation 'conv_4x4'"),
    ],
)
def test_layers_that_make_no_space(layers: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        type("Wrong", (LayerChain,), {"name": "wrong", "layers": layers})


def test_strings_that_fit_no_layer() -> None:
    space = Mixed()
    with pytest.raises(InvalidGenotypeError, match=r"String 0 is no chain of mixed. Expected 3 operations"):
        space.from_string(["conv_1x1>conv_1x1"])
    with pytest.raises(InvalidGenotypeError, match=r"layer 2 is one of conv_3x3, skip_connect. Got 'conv_1x1'"):
        space.from_string(["conv_1x1>conv_1x1>conv_1x1"])
