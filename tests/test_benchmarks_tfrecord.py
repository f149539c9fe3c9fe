"""NAS-Bench-101's own TFRecord files: framing, checksums, messages, damage, and going on after an interruption.

The second implementation here reads record by record with struct, json and base64; the fixture writes from the
documented layouts with checksums of its own. Genuine files are retrainings by others in the same format.
"""

import base64
import gzip
import hashlib
import json
import struct
from contextlib import suppress
from itertools import pairwise

import fixtures_nasbench101_tfrecord as files
import numpy as np
import pytest

from tauzero import benchmarks, spaces
from tauzero.benchmarks import _nasbench101_tfrecord as reader
from tauzero.benchmarks import _tfrecord
from tauzero.benchmarks._crc32c import crc32c, crc32c_of_parts, masked
from tauzero.benchmarks._nasbench101_tfrecord import recognises
from tauzero.spaces import BenchmarkFormatError

SPACE = spaces.get("nasbench101")
GENUINE = ["epochs_4_spec_3V9E", "carbon_3V9E", "carbon_4V9E"]
INCEPTION = "28cfc7874f6d200472e1a9dcd8650aa0"


# -- the second implementation ------------------------------------------------------------------


def read_varint(data, place):
    value = shift = 0
    while True:
        value |= (data[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 128:
            return value, place


def read_message(data):
    place, found = 0, []
    while place < len(data):
        tag, place = read_varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = read_varint(data, place)
        elif kind == 1:
            (value,), place = struct.unpack_from("<d", data, place), place + 8
        elif kind == 5:
            value, place = data[place : place + 4], place + 4
        else:
            assert kind == 2
            length, place = read_varint(data, place)
            value, place = data[place : place + length], place + length
        found.append((number, kind, value))
    return found


def read_records(path):
    """(hash, epochs, adjacency, operations, evaluations as lists of five, parameters) of each record."""
    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        body = data[place + 12 : place + 12 + length]
        assert files.mask(files.crc32c(body)) == struct.unpack_from("<I", data, place + 12 + length)[0]
        module_hash, epochs, adjacency, operations, metrics = json.loads(body)
        message = read_message(base64.b64decode(metrics))
        evaluations = []
        for number, kind, value in message:
            if (number, kind) == (1, 2):
                fields = {n: v for n, k, v in read_message(value) if k == 1}
                evaluations.append([fields.get(n, np.nan) for n in range(1, 6)])
        parameters = [value for number, kind, value in message if (number, kind) == (2, 0)][-1]
        found.append((module_hash, epochs, adjacency, operations, evaluations, parameters))
        place += 16 + length
    return found


def check(path, table=None):
    """Every figure of a file is found in the table, and nothing else."""
    table = benchmarks.load("nasbench101", path) if table is None else table
    trainings, halves = {}, set()
    for module_hash, epochs, adjacency, operations, evaluations, parameters in read_records(path):
        row = SPACE.from_string([f"{adjacency}:{operations}"])
        assert SPACE.hash_strings(row) == [module_hash]
        cell = int(SPACE.index(row)[0])
        trainings.setdefault((cell, epochs), []).append(evaluations)
        halves |= {epochs for e in evaluations[1:-1] if abs(e[0] - epochs / 2) <= 0.005 * epochs}
        assert table.query_index([cell], metric="parameters")[0] == parameters
    info = table.info()
    assert info["rows"] == len({cell for cell, _ in trainings})
    for (cell, epochs), runs in trainings.items():
        for column, metric in enumerate(
            ("training_seconds", "train_accuracy", "validation_accuracy", "test_accuracy"), 1
        ):
            scale = 1.0 if column == 1 else 100.0
            for suffix in ("", "_halfway"):
                name = metric + suffix
                if suffix and epochs not in halves:
                    assert epochs not in (table.epochs("cifar10", name) if name in table.metrics() else ())
                    continue
                expected = []
                for evaluations in runs:
                    half = [e for e in evaluations[1:-1] if abs(e[0] - epochs / 2) <= 0.005 * epochs]
                    chosen = (half[0] if half else [np.nan] * 5) if suffix else evaluations[-1]
                    expected.append(np.float32(scale * chosen[column]))
                for number, value in enumerate(expected):
                    got = table.query_index([cell], metric=name, epoch=epochs, seed=number)
                    np.testing.assert_array_equal(got, [value])
                for number in set(table.runs("cifar10", name, epochs)) - set(range(len(runs))):
                    assert np.isnan(table.query_index([cell], metric=name, epoch=epochs, seed=number)).all()
                there = [float(e) for e in expected if not np.isnan(e)]
                mean = np.mean(there) if there else np.nan
                got = table.query_index([cell], metric=name, epoch=epochs)
                np.testing.assert_allclose(got, [mean], rtol=1e-14)
    return table


# -- checksums ----------------------------------------------------------------------------------


def test_known_checksums():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    some = np.array([0, 1, 0xFFFFFFFF, 0xE3069283], dtype=np.uint32)
    assert masked(some).tolist() == [files.mask(int(crc)) for crc in some]


@pytest.mark.parametrize("longest", [5, 70, 3_000])
def test_checksums_of_ragged_parts_are_those_of_the_parts(longest):
    rng = np.random.default_rng(longest)
    data = rng.integers(256, size=5_000, dtype=np.uint8)
    lengths = rng.integers(0, longest, 300)
    lengths[:5] = 0, 1, 2, 3, 4
    starts = rng.integers(0, 5_000 - lengths)
    starts[5:7] = 0
    sums = crc32c_of_parts(data, starts, lengths)
    for start, length, crc in zip(starts, lengths, sums, strict=True):
        assert files.crc32c(data[start : start + length].tobytes()) == crc


def test_no_parts_have_no_checksums():
    assert len(crc32c_of_parts(np.zeros(3, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))) == 0


# -- genuine files ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_files(shared_data, name):
    path = shared_data / "originals" / "nasbench101_tfrecord" / f"{name}.tfrecord"
    table = check(path)
    assert table.info()["provenance"]["records"] == len(read_records(path))
    # What lies between start and end there was measured after the first epoch: not halfway.
    assert not any(metric.endswith("_halfway") for metric in table.metrics())


def test_a_genuine_record_by_hand(shared_data):
    table = benchmarks.load("nasbench101", shared_data / "originals/nasbench101_tfrecord/epochs_4_spec_3V9E.tfrecord")
    assert table.epochs() == (4,)
    cell = SPACE.from_string(["011001000:input,conv3x3-bn-relu,output"])
    # The last evaluation of the first record, its doubles from the hex dump: 40531c9bc0000000 is 76.447…
    assert struct.unpack(">d", bytes.fromhex("40531c9bc0000000"))[0] == 76.44700622558594
    assert table.query(cell, seed=0)[0] == pytest.approx(50.62099099159241, abs=1e-5)
    assert table.query(cell, metric="validation_accuracy", seed=0)[0] == pytest.approx(50.66105723381042, abs=1e-5)
    assert table.query(cell, metric="train_accuracy", seed=0)[0] == pytest.approx(50.97155570983887, abs=1e-5)
    value, cost = table.query(cell, metric="training_seconds", seed=0, return_cost=True)
    assert value[0] == np.float32(76.44700622558594)
    assert cost[0] == pytest.approx(table.query(cell, metric="training_seconds")[0])
    assert table.query(cell, metric="parameters")[0] == 11_051_402 == SPACE.costs(cell)[0][0]


def test_messages_are_what_the_protobuf_library_reads(shared_data):
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")
    from google.protobuf import descriptor_pool, message_factory

    file = descriptor.FileDescriptorProto(name="metrics.proto", package="t", syntax="proto2")
    evaluation, metrics = file.message_type.add(name="E"), file.message_type.add(name="M")
    for number, name in enumerate(("epoch", "seconds", "train", "validation", "test"), 1):
        evaluation.field.add(name=name, number=number, label=1, type=1)
    metrics.field.add(name="evaluations", number=1, label=3, type=11, type_name=".t.E")
    metrics.field.add(name="parameters", number=2, label=1, type=5)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    parser = message_factory.GetMessageClass(pool.FindMessageTypeByName("t.M"))
    path = shared_data / "originals/nasbench101_tfrecord/carbon_3V9E.tfrecord"
    table = benchmarks.load("nasbench101", path)
    data, place, seen = path.read_bytes(), 0, {}
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        _, epochs, adjacency, operations, text = json.loads(data[place + 12 : place + 12 + length])
        place += 16 + length
        message = parser.FromString(base64.b64decode(text))
        run = seen[adjacency, operations, epochs] = seen.get((adjacency, operations, epochs), -1) + 1
        cell = SPACE.from_string([f"{adjacency}:{operations}"])
        end = message.evaluations[2]
        assert table.query(cell, epoch=epochs, seed=run)[0] == np.float32(100 * end.test)
        assert table.query(cell, metric="training_seconds", epoch=epochs, seed=run)[0] == np.float32(end.seconds)
        assert table.query(cell, metric="parameters")[0] == message.parameters


# -- round trips --------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path):
    cells = [423_623, 7, 0, 50_000, 11]
    budgets, repeats = (4, 12, 36, 108), 3
    texts, values = files.payloads(cells, budgets, repeats)
    table = check(files.write(tmp_path / "t", texts))
    assert table.epochs() == budgets
    assert table.runs() == (0, 1, 2)
    rows = SPACE.enumerate()[cells]
    for b, epochs in enumerate(budgets):
        for run in range(repeats):
            got = table.query(rows, epoch=epochs, seed=run)
            np.testing.assert_allclose(got, 100 * values[:, b, run, 2, 4], rtol=1e-7)
            half = table.query(rows, metric="validation_accuracy_halfway", epoch=epochs, seed=run)
            np.testing.assert_allclose(half, 100 * values[:, b, run, 1, 3], rtol=1e-7)
    whole = table.table()
    assert np.flatnonzero(~np.isnan(whole)).tolist() == sorted(cells)
    assert table.info()["licence"].startswith("that of the file's source")


def test_stopping_halfway_costs_the_time_until_then(tmp_path):
    table = benchmarks.load("nasbench101", files.small(tmp_path))
    row = SPACE.enumerate()[[40]]
    _, whole = table.query(row, return_cost=True)
    _, half = table.query(row, metric="test_accuracy_halfway", return_cost=True)
    assert half == table.query(row, metric="training_seconds_halfway")
    assert 0 < half[0] == pytest.approx(whole[0] / 2)


def random_record(facts, rng):
    """A record in one of many forms that mean the same."""
    module_hash, adjacency, operations, parameters = facts
    epochs = int(rng.choice([4, 108]))
    evaluations = [
        [e, rng.uniform(0, 9), *rng.uniform(0, 1, 3)] for e in (0.0, epochs / 2 - rng.uniform(0, 0.004), epochs)
    ]
    form = rng.integers(8)
    if form == 0:
        evaluations[2][3] = None  # not there
    if form == 1:
        del evaluations[1]
    extra = b""
    if form == 2:
        extra = files.nested(7, bytes(rng.integers(256, size=int(rng.integers(6)), dtype=np.uint8)))
        extra += files.varint(9 << 3) + files.varint(int(rng.integers(1 << 40)))
        extra += files.varint(8 << 3 | 5) + b"abcd" + files.varint(2 << 3) + files.varint(parameters)
    message = files.message(evaluations, parameters, extra=extra)
    if form == 3:
        message = files.varint(2 << 3) + files.varint(7) + message  # the last one counts
    if form == 4:
        first = files.nested(1, files.double(4, 0.5) + files.nested(6, b"/path/model.ckpt") + files.double(4, 0.25))
        message = first + message
    encode = base64.b64encode if form == 5 else base64.encodebytes
    options = {"separators": (",", ":")} if form == 6 else {}
    text = files.record(module_hash, epochs, adjacency, operations, message, encode, **options)
    return text + b" " * int(form == 7)


@pytest.mark.parametrize("seed", range(3))
def test_mixed_forms_in_any_order_and_across_blocks(tmp_path, monkeypatch, seed):
    rng = np.random.default_rng(seed)
    facts = files.described(rng.integers(SPACE.size, size=20))
    facts += files.described([0, 1, 2, 3, 4, 5, 6, 7, 20, 100])
    picked = np.repeat(np.arange(len(facts)), 8)
    rng.shuffle(picked)
    path = files.write(tmp_path / "t", [random_record(facts[k], rng) for k in picked])
    monkeypatch.setattr(_tfrecord, "_BLOCK", 9_000)
    check(path)


def test_isomorphic_matrices_are_one_cell(tmp_path):
    """The vertices may be numbered otherwise than tauzero does."""
    own = "0110000100010000:input,conv3x3-bn-relu,maxpool3x3,output"
    other = "0110000100010000:input,maxpool3x3,conv3x3-bn-relu,output"
    (row,), (mirrored,) = SPACE.from_string([own]), SPACE.from_string([other])
    assert SPACE.index(row[None]) == SPACE.index(mirrored[None])
    (module_hash,) = SPACE.hash_strings(row[None])
    message = files.message([[0, 0, 0.1, 0.1, 0.1], [108, 9, 0.9, 0.8, 0.7]], 1000)
    texts = [files.record(module_hash, 108, *text.split(":"), message) for text in (own, other)]
    table = benchmarks.load("nasbench101", files.write(tmp_path / "t", texts))
    assert table.info()["rows"] == 1
    assert table.runs() == (0, 1)


def test_the_inception_like_cell_of_the_authors(tmp_path):
    matrix = "0111010" + "0000001" + "0000001" + "0000100" + "0000001" + "0000001" + "0000000"
    operations = "input,conv1x1-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,conv3x3-bn-relu,maxpool3x3,output"
    message = files.message([[0, 0, 0.1, 0.1, 0.1], [54, 9, 0.5, 0.5, 0.5], [108, 18, 1, 0.9, 0.94]], 2_694_282)
    path = files.write(tmp_path / "t", [files.record(INCEPTION, 108, matrix, operations, message)])
    table = check(path)
    assert table.query(SPACE.from_string([f"{matrix}:{operations}"]))[0] == pytest.approx(94.0, rel=1e-7)


# -- importing ----------------------------------------------------------------------------------


def test_an_interrupted_import_goes_on(tmp_path, monkeypatch):
    texts, _ = files.payloads(range(0, 300_000, 6_000), repeats=2)
    path = files.write(tmp_path / "t.tfrecord", texts)
    monkeypatch.setattr(_tfrecord, "_BLOCK", 5_000)
    whole = benchmarks.import_table("nasbench101", path, tmp_path / "whole.arrow")
    begun = []
    original = _tfrecord.record_blocks

    def spied(path, offset=0, first=0):
        begun.append((offset, first))
        return original(path, offset, first)

    monkeypatch.setattr(reader, "record_blocks", spied)
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) in {3, 5}:
            raise KeyboardInterrupt

    target = tmp_path / "again.arrow"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            benchmarks.import_table("nasbench101", path, target, progress=stop)
        assert not target.exists()
    benchmarks.import_table("nasbench101", path, target, progress=stop)
    (start, _), (second, number), (third, _) = begun
    assert start == 0 < second < third
    assert sum(len(t) + 16 for t in texts[:number]) == second
    assert target.read_bytes() == whole.read_bytes()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_progress_rises_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(_tfrecord, "_BLOCK", 3_000)
    told = []
    reader.read(files.small(tmp_path), lambda done, total: told.append((done, total)))
    assert len(told) > 2
    assert all(a[0] < b[0] <= b[1] for a, b in pairwise(told))


def test_a_table_of_the_whole_space_has_no_index(tmp_path, monkeypatch):
    """Its hashes are checked by one checksum; if that is wrong, cell by cell."""
    known = reader._Cells(
        np.zeros((SPACE.size, 16), np.uint8),
        np.ones(SPACE.size, np.int32),
        np.arange(SPACE.size, dtype=np.int64)[::-1].copy(),
        np.arange(SPACE.size, dtype=np.int64),
    )
    monkeypatch.setattr(reader, "_HASHED", 200)
    known.hash[:200] = SPACE.hash(SPACE.enumerate()[:200])
    with pytest.raises(BenchmarkFormatError, match=r"Record 423224 \(at byte 399\) has the module hash 00000000"):
        known.check(SPACE)
    monkeypatch.setattr(reader, "_ALL_HASHES", hashlib.sha256(known.hash.tobytes()).hexdigest())
    known.check(SPACE)


def test_the_checksum_of_all_hashes(shared_data):
    import pyarrow.parquet as pq

    from tauzero.benchmarks._nasbench101_parquet import genotypes_of_codes

    table = pq.read_table(shared_data / "nb101" / "nb101.parquet")
    cells = SPACE.index(genotypes_of_codes(*(table[c].to_numpy() for c in ("n_vertices", "adj_bits", "ops_base3"))))
    hashes = np.frombuffer(b"".join(table["module_hash"].to_pylist()), dtype=np.uint8).reshape(-1, 16)
    ordered = np.empty_like(hashes)
    ordered[cells] = hashes
    assert hashlib.sha256(ordered.tobytes()).hexdigest() == reader._ALL_HASHES
    some = np.random.default_rng(0).integers(SPACE.size, size=500)
    np.testing.assert_array_equal(SPACE.hash(SPACE.enumerate()[some]), ordered[some])


# -- damage -------------------------------------------------------------------------------------


def fails(path, match=None):
    with pytest.raises(BenchmarkFormatError, match=match):
        benchmarks.load("nasbench101", path)


def test_a_cut_file(tmp_path):
    path = files.small(tmp_path)
    data = path.read_bytes()
    ends = np.cumsum([len(t) + 16 for t in files.payloads([0, 1, 5, 40, 2_000, 400_000], (4, 108), 2)[0]]).tolist()
    assert ends[-1] == len(data)
    cuts = {*range(0, ends[0], 3), *range(ends[3] - 20, ends[4], 7), len(data) - 1}
    for cut in sorted(cuts - set(ends)):
        path.write_bytes(data[:cut])
        record = sum(end <= cut for end in ends)
        fails(path, rf"Record {record} \(at byte {([0, *ends])[record]}\) of .* is cut off" if cut > 60 else None)


def test_every_flipped_bit_is_found(tmp_path):
    path = files.small(tmp_path)
    data = path.read_bytes()
    starts = np.cumsum([0] + [len(t) + 16 for t in files.payloads([0, 1, 5, 40, 2_000, 400_000], (4, 108), 2)[0]])
    rng = np.random.default_rng(0)
    for place in [*range(60), *rng.integers(60, len(data), 150).tolist()]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        record = int(np.searchsorted(starts, place, side="right")) - 1
        within = place - starts[record]
        what = "length field" if within < 12 else "data"
        named = rf"Record {record} \(at byte {starts[record]}\) of .*checksum \(CRC-32C\) of its {what}"
        fails(path, named if record or within >= 50 else None)


@pytest.mark.parametrize("length", [_tfrecord.LONGEST + 1, 2**40, 2**63, 2**64 - 1])
def test_a_huge_length_is_refused_before_anything_is_read(tmp_path, length):
    good = files.payloads([3], repeats=1)[0]
    path = files.write(tmp_path / "t", good)
    field = struct.pack("<Q", length)
    with path.open("ab") as stream:
        stream.write(field + struct.pack("<I", files.mask(files.crc32c(field))) + b"x" * 100_000)
    fails(path, rf"Record 1 \(at byte {len(good[0]) + 16}\) of .* is {length} bytes long, at most 65536")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89HDF\r\n\x1a\n" * 20,
        b"\0" * 100,
        b"{}",
        gzip.compress(b"x" * 1000),
        b'["28cfc7874f6d200472e1a9dcd8650aa0"',
    ],
    ids=["empty", "hdf5", "zeros", "json", "gzip", "bare"],
)
def test_foreign_files_are_not_recognised(tmp_path, content):
    path = tmp_path / "t"
    path.write_bytes(content)
    assert not recognises(path)
    fails(path, "in no format that is known")


def test_foreign_places_are_not_recognised(tmp_path):
    assert not recognises(tmp_path)
    assert not recognises(tmp_path / "nothing")
    files.write(tmp_path / "images", [b"\x0a\x10image"])
    assert not recognises(tmp_path / "images")


def test_a_compressed_file_is_not_recognised(tmp_path):
    path = files.small(tmp_path)
    path.write_bytes(gzip.compress(path.read_bytes()))
    fails(path, "in no format")


def test_other_benchmarks_refuse_it(tmp_path):
    with pytest.raises(BenchmarkFormatError, match="is a table of 'nasbench101', not of 'nasbench201'"):
        benchmarks.import_table("nasbench201", files.small(tmp_path), tmp_path)


def test_missing_values_are_nan_without_a_warning(tmp_path):
    """A NaN in the file, also a signalling one, is no value; so is a field that is not there."""
    signalling = bytes.fromhex("010000000000f07f")
    end = files.double(1, 108) + files.double(3, 0.5) + files.varint(5 << 3 | 1) + signalling
    message = files.nested(1, end) + files.varint(2 << 3) + files.varint(77)
    table = benchmarks.load("nasbench101", files.write(tmp_path / "t", [one(metrics=message)]))
    cell = SPACE.enumerate()[[12]]
    assert table.query(cell, metric="train_accuracy").tolist() == [50.0]
    assert table.metrics() == ("parameters", "train_accuracy")
    assert table.query(cell, metric="parameters").tolist() == [77]


GOOD = dict(zip(("module_hash", "adjacency", "operations", "parameters"), files.described([12])[0], strict=True))
EVALUATIONS = ((0, 0, 0.1, 0.1, 0.1), (54, 5, 0.5, 0.5, 0.5), (108, 10, 0.9, 0.8, 0.7))


def one(epochs=108, evaluations=EVALUATIONS, extra=b"", metrics=None, encode=base64.encodebytes, **changes):
    facts = GOOD | changes
    message = files.message(evaluations, facts["parameters"], extra=extra) if metrics is None else metrics
    return files.record(facts["module_hash"], epochs, facts["adjacency"], facts["operations"], message, encode)


BAD = {
    "no list": (b'{"a": 1}', "JSON list"),
    "empty": (b"", "empty"),
    "short list": (b'["' + b"0" * 32 + b'", 108]', "JSON list"),
    "text epochs": (one("108"), "JSON list"),
    "no epochs": (one(0), "JSON list"),
    "hash": (one(module_hash="0" * 32), "module hash 0{32}"),
    "short hash": (one(module_hash="0" * 31), "JSON list"),
    "no square": (one(adjacency=GOOD["adjacency"] + "0"), "no square"),
    "operations": (one(operations="input,conv5x5-bn-relu,output"), "expected . operations"),
    "one operation less": (one(operations=GOOD["operations"].replace(",output", "")), "expected . operations"),
    "no output": (one(operations=GOOD["operations"].replace("output", "maxpool3x3")), "expected . operations"),
    "no path": (one(adjacency="0" * len(GOOD["adjacency"])), "not in the space"),
    "backwards": (one(adjacency="1" * len(GOOD["adjacency"])), "not in the space"),
    "eight vertices": (one(adjacency="0" * 64), "JSON list"),
    "accuracy": (one(evaluations=[*EVALUATIONS[:2], (108, 1, 0.9, 0.8, 1.01)]), r"accuracies must lie in \[0, 1\]"),
    "negative time": (one(evaluations=[*EVALUATIONS[:2], (108, -1, 0.9, 0.8, 0.7)]), "not be negative"),
    "infinite": (one(evaluations=[*EVALUATIONS[:2], (108, np.inf, 0.9, 0.8, 0.7)]), "infinite"),
    "too large": (one(evaluations=[*EVALUATIONS[:2], (108, 1e300, 0.9, 0.8, 0.7)]), "too large"),
    "other epochs": (one(36), "last evaluation is after 108 epochs, not after 36"),
    "no evaluations": (one(evaluations=[]), "no evaluations"),
    "no parameters": (one(parameters=None), "parameters is missing"),
    "parameters 0": (one(parameters=0), "parameters is 0"),
    "negative parameters": (one(parameters=2**64 - 1), "parameters is 18446744073709551615"),
    "no base64": (one(encode=lambda m: b"AAA=" + base64.b64encode(m)), "JSON list|base64"),
    "half a quadruple": (one(encode=lambda m: base64.b64encode(m)[:-1]), "multiple of four"),
    "no message": (one(metrics=b"\xff" * 30), "longer than ten bytes"),
    "group": (one(extra=b"\x0b\x0c"), "wire type 3"),
    "field 0": (one(extra=b"\x00\x01"), "field number 0"),
    "cut field": (one(extra=files.varint(9 << 3 | 2) + files.varint(1 << 60)), "field 9 is cut off"),
    "cut number": (one(extra=b"\x80"), "cut off"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_record_that_is_none_is_named(tmp_path, case):
    text, match = BAD[case]
    before = files.payloads([12, 13], repeats=2)[0]
    # Of the right length, the bad one is read together with good ones.
    path = files.write(tmp_path / "t", [*before, one(), text, one()])
    place = sum(len(t) + 16 for t in [*before, one()])
    with pytest.raises(BenchmarkFormatError, match=match) as caught:
        benchmarks.load("nasbench101", path)
    assert f"Record 5 (at byte {place})" in str(caught.value) or match == "module hash 0{32}"


def test_a_hash_of_another_cell_is_named(tmp_path):
    facts = files.described([30, 31])
    texts = files.payloads([12, 13], repeats=1)[0]
    message = files.message(EVALUATIONS, 1000)
    path = files.write(tmp_path / "a", [*texts, files.record(facts[0][0], 108, *facts[1][1:3], message)])
    fails(path, rf"Record 2 \(at byte \d+\) has the module hash {facts[0][0]}, and its adj.* of {facts[1][0]}")
    second = [files.record(h, 108, *facts[1][1:3], message) for h in (facts[1][0], facts[0][0])]
    fails(files.write(tmp_path / "b", [*texts, *second]), rf"Record 3 .* hash {facts[0][0]}, and record 2 of the same")


def test_absurd_numbers_of_trainings_are_refused(tmp_path):
    fails(files.write(tmp_path / "a", [one()] * 11), "Record 10 is training 11 of 108 epochs")
    budgets = [one(e, [(0, 0, 0.1, 0.1, 0.1), (e, 1, 0.5, 0.5, 0.5)]) for e in range(1, 10)]
    fails(files.write(tmp_path / "b", budgets), "9 different numbers of epochs")


@pytest.mark.parametrize("seed", range(4))
def test_changed_records_with_right_checksums(tmp_path, seed):
    """Whatever stands in a record: a table, or the one error."""
    rng = np.random.default_rng(seed)
    texts = files.payloads([12, 13, 400_000], (4, 108), 1)[0]
    for _ in range(60):
        damaged = [bytearray(t) for t in texts]
        text = damaged[rng.integers(len(texts))]
        for _ in range(rng.integers(1, 4)):
            place = int(rng.integers(len(text)))
            kind = rng.integers(4)
            if kind == 0:
                text[place] ^= 1 << rng.integers(8)
            elif kind == 1:
                text[place] = rng.choice(list(b'0123456789abcdef[]",=\\+/AzZ{} '))
            elif kind == 2:
                del text[place : place + int(rng.integers(1, 40))]
            else:
                text[place:place] = bytes(text[: int(rng.integers(1, 40))])
            if not text:
                break
        path = tmp_path / "t"
        path.unlink(missing_ok=True)
        files.write(path, [bytes(t) for t in damaged])
        with suppress(BenchmarkFormatError):
            benchmarks.load("nasbench101", path).table()
