"""Writes test/fixtures/hdf5: files written by Keras and h5py, and what h5py reads from them.

Run from the repository root with a Python that has keras, h5py and ml_dtypes:

    python test/reference/make_hdf5_fixtures.py

`expected.json` maps file name -> path -> {shape, dtype, hex}. `hex` holds the little-endian bytes. Some datasets also
have `values`, the numbers. Unreadable datasets have only `unreadable`, a part of the expected message.
"""

import ctypes
import glob
import json
import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import h5py
import keras
import ml_dtypes
import numpy as np

FOLDER = os.path.join(os.path.dirname(__file__), "..", "fixtures", "hdf5")
EXPECTED = {}


def describe(array):
    """What a reader should report for an array."""
    little = array.astype(array.dtype.newbyteorder("<")) if array.dtype.kind in "iuf" else array
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        "hex": little.tobytes().hex(),
    }


def read_all(path):
    """Describes all datasets of a file under all their names, read with h5py; opaque ones are bfloat16, as in Keras."""
    datasets = {}

    def visit(group, prefix, above):
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if isinstance(item, h5py.Group) and address not in above:
                visit(item, f"{prefix}{name}/", [*above, address])
            if isinstance(item, h5py.Dataset):
                array = item[()]
                if item.dtype.kind == "V":
                    array = np.asarray(array).view(ml_dtypes.bfloat16)
                datasets[f"{prefix}{name}"] = describe(np.asarray(array))

    with h5py.File(path, "r") as file:
        visit(file, "", [h5py.h5o.get_info(file.id).addr])
    return datasets


def fixture(name, write, unreadable=None, **options):
    """Writes one file with `write(file)` and records its contents."""
    path = os.path.join(FOLDER, name)
    with h5py.File(path, "w", **options) as file:
        write(file)
    EXPECTED[name] = {} if unreadable else read_all(path)
    for dataset, message in (unreadable or {}).items():
        EXPECTED[name][dataset] = {"unreadable": message}


def keras_model(dtype):
    """A small model with nested layers, shared names and a seed generator."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(7)
    inputs = keras.Input((3,), dtype="int32", name="ids")
    x = keras.layers.Embedding(5, 4, dtype=dtype, name="embedding")(inputs)
    x = keras.layers.LayerNormalization(dtype=dtype, name="norm")(x)
    if dtype == "bfloat16":  # Only once, since groups take most of a file's size.
        x = keras.layers.Dropout(0.5, dtype=dtype, name="dropout")(x)
        x = keras.layers.MultiHeadAttention(2, 2, dtype=dtype, name="attention")(x, x)
    outputs = keras.layers.Dense(2, dtype=dtype, name="head")(x)
    model = keras.Model(inputs, outputs)
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(rng.normal(size=weight.shape))
    return model


def write_keras():
    for dtype in ("float32", "float16", "bfloat16"):
        name = f"keras_{dtype}.weights.h5"
        path = os.path.join(FOLDER, name)
        keras_model(dtype).save_weights(path, overwrite=True)
        EXPECTED[name] = read_all(path)
        # The values, to check their conversion to float32.
        with h5py.File(path, "r") as file:
            kernel = file["layers/dense/vars/0"]
            array = kernel[()].view(ml_dtypes.bfloat16) if kernel.dtype.kind == "V" else kernel[()]
            EXPECTED[name]["layers/dense/vars/0"]["values"] = array.astype("float64").reshape(-1).tolist()


def write_types(file):
    rng = np.random.default_rng(1)
    for dtype in ("float16", "float32", "float64"):
        file.create_dataset(f"floats/{dtype}", data=np.array([[0.0, -1.5, 65504.0], [1e-7, 2.0, -0.0]], dtype))
    for bits in (8, 16, 32, 64):
        for kind in ("int", "uint"):
            limits = np.iinfo(f"{kind}{bits}")
            file.create_dataset(f"integers/{kind}{bits}", data=np.array([limits.min, 1, limits.max], f"{kind}{bits}"))
    file.create_dataset("scalar", data=np.float32(2.5))
    file.create_dataset("empty", data=np.zeros((0, 4), "float32"))
    file.create_dataset("four_dimensions", data=rng.normal(size=(2, 1, 3, 2)).astype("float32"))
    file.create_dataset("größe", data=np.arange(3, dtype="int32"))
    space = h5py.h5s.create_simple((3,))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    compact = h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F32LE, space, plist)
    compact.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([1, 2, 3], "float32"))
    write_attributes(file["integers"])
    # Attributes that do not fit in the first block of the header create a continuation block.
    for i in range(40):
        file["scalar"].attrs[f"note_{i:02d}"] = f"text {i}"


def write_attributes(item):
    item.attrs["variable"] = "grün"
    item.attrs["blank"] = ""
    item.attrs["fixed"] = np.bytes_("abc")
    item.attrs["texts"] = ["one", "two"]
    item.attrs["int"] = np.int64(-5)
    item.attrs["float"] = np.float32(0.25)
    item.attrs["half"] = np.float16(0.5)
    item.attrs["list"] = np.array([1, 2, 3], "uint16")
    item.attrs["flag"] = True
    item.attrs["double"] = np.float64(-1e-300)
    for bits in (8, 16, 32, 64):
        # At most 2**53, which is exact in a double.
        item.attrs[f"int{bits}"] = np.array(-(2 ** min(bits - 1, 53)), f"int{bits}")
        item.attrs[f"uint{bits}"] = np.array(2**53 if bits == 64 else 2**bits - 1, f"uint{bits}")
    item.attrs["none"] = np.zeros(0, "int32")
    item.attrs["null"] = h5py.Empty("float32")
    padded = h5py.h5t.C_S1.copy()
    padded.set_size(4)
    padded.set_strpad(h5py.h5t.STR_SPACEPAD)
    attribute = h5py.h5a.create(item.id, b"spaces", padded, h5py.h5s.create(h5py.h5s.SCALAR))
    attribute.write(np.array(b"ab  ", "S4"), padded)


def write_many(file):
    group = file.create_group("layers")
    for i in range(300):
        # Not in sorted order, so that nodes also split in the middle.
        name = f"layer_{i * 7919 % 300}"
        if i % 150 == 0:
            group.create_group(name)
        else:
            group.create_dataset(name, data=np.int16(i))


def write_deep(path):
    """Two links per leaf and four children per node, so that 36 links need a tree of several levels."""
    plist = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    # h5py does not expose this setting; its bundled library does.
    libraries = os.path.join(os.path.dirname(h5py.__file__), "..", "h5py.libs", "libhdf5-*")
    set_sym_k = ctypes.CDLL(glob.glob(libraries)[0]).H5Pset_sym_k
    set_sym_k.argtypes = [ctypes.c_int64, ctypes.c_uint, ctypes.c_uint]
    assert set_sym_k(plist.id, 2, 1) >= 0
    with h5py.File(h5py.h5f.create(path.encode(), fcpl=plist)) as file:
        for i in range(36):
            file.create_dataset(f"d{i * 7 % 36}", data=np.int8(i))


def write_latest(file):
    file.create_dataset("a/b/float32", data=np.arange(6, dtype="float32").reshape(2, 3))
    raw = np.array([1.0, -2.5], ml_dtypes.bfloat16)
    file.create_dataset("a/bf16", data=raw.view("V2"))
    file["a/bf16"].attrs["dtype"] = "bfloat16"
    file.create_dataset("scalar", data=np.int64(-3))
    file["a"].attrs["name"] = "layer"
    # More than 8 attributes are stored outside the header.
    for i in range(9):
        file["a/b"].attrs[f"note_{i}"] = np.int8(i)


def write_chunked(file):
    """What h5py writes with its usual options, in arrays that do not fill their last chunks."""
    rng = np.random.default_rng(5)
    matrix = rng.integers(-3, 4, (23, 17)).astype("float32")
    options = {
        "plain": {},
        "gzip": dict(compression="gzip", compression_opts=9),
        "lzf": dict(compression="lzf"),
        "shuffle": dict(shuffle=True),
        "fletcher32": dict(fletcher32=True),
        "all": dict(compression="gzip", shuffle=True, fletcher32=True),
        "all_lzf": dict(compression="lzf", shuffle=True, fletcher32=True),
    }
    for name, kwargs in options.items():
        file.create_dataset(f"matrix/{name}", data=matrix, chunks=(5, 4), **kwargs)
    file.create_dataset("shapes/line", data=np.arange(100, dtype="int16"), chunks=(7,))
    file.create_dataset("shapes/cube", data=rng.normal(size=(5, 4, 6)), chunks=(2, 3, 5), compression="gzip")
    file.create_dataset("shapes/whole", data=matrix, chunks=matrix.shape)
    file.create_dataset("shapes/whole_gzip", data=matrix, chunks=matrix.shape, compression="gzip")
    file.create_dataset("shapes/resizable", data=matrix, chunks=(5, 4), maxshape=(None, None), compression="gzip")
    file.create_dataset("shapes/bytes", data=rng.integers(0, 2, (9, 9)).astype("uint8"), chunks=(9, 2), shuffle=True)
    # Chunks that were never written have the fill value.
    for name, fill in (("zeros", None), ("fill", 1.5)):
        kwargs = {} if fill is None else {"fillvalue": fill}
        file.create_dataset(f"partial/{name}", (10, 10), "float32", chunks=(4, 4), **kwargs)[0:3, 5:9] = 7
    # Noise does not get shorter, so lzf is left out for these chunks.
    file.create_dataset("partial/noise", data=rng.integers(0, 256, 40, "uint8"), chunks=(4,), compression="lzf")
    raw = rng.normal(size=(6, 6)).astype(ml_dtypes.bfloat16)
    file.create_dataset("bf16", data=raw.view("V2"), chunks=(4, 4), compression="gzip", shuffle=True)
    file["bf16"].attrs["dtype"] = "bfloat16"


def write_many_chunks(file):
    """Enough chunks for B-trees of several levels, and for pages of an array of chunks."""
    numbers = np.arange(1200, dtype="int16")
    file.create_dataset("line", data=numbers, chunks=(1,))
    file.create_dataset("gzip", data=numbers.reshape(40, 30), chunks=(1, 1), compression="gzip")
    file.create_dataset("sparse", (1200,), "int16", chunks=(1,))[1100] = 3
    if file.libver[0] == "latest":
        file.create_dataset("resizable", data=numbers.reshape(40, 30), chunks=(1, 1), maxshape=(None, None))


def write_extensible(file):
    file.create_dataset("line", data=np.zeros(8), chunks=(2,), maxshape=(None,))


def write_dense(file):
    """Groups of more than 8 links, whose names do not fit in one block of a heap."""
    for i in range(400):
        file.create_dataset(f"many/a_name_that_is_not_short_{i * 7919 % 400}", data=np.int16(i))
    for i in range(9):
        file.create_dataset(f"few/d{i}", data=np.int8(i))
    for i in range(20):
        file["few"].attrs[f"note_{i}"] = f"text {i}"


def write_links(file):
    """Second names of groups and datasets, and a circle."""
    file.create_dataset("layers/dense/vars/0", data=np.float32(1))
    file["alias"] = file["layers"]
    file["layers/again"] = file["layers/dense"]
    file["number"] = file["layers/dense/vars/0"]


def write_unreadable(file):
    """Uses several groups, since new-style groups keep at most 8 links in their headers."""
    file.create_dataset("storage/scale_offset", data=np.zeros((4, 4), "int32"), scaleoffset=0)
    file.create_dataset("types/big_float", data=np.zeros(3, ">f4"))
    file.create_dataset("types/big_int", data=np.zeros(3, ">i2"))
    file.create_dataset("storage/unallocated", (3,), "float32")
    file.create_dataset("types/boolean", data=np.array([True, False]))
    file.create_dataset("types/text", data="words")
    file.create_dataset("storage/null", data=h5py.Empty("float32"))
    file.create_dataset("types/compound", data=np.zeros(2, [("a", "i4")]))
    file.create_dataset("types/opaque", data=np.zeros(2, "V2"))
    file.create_dataset("types/opaque_other", data=np.zeros(2, "V1"))
    file["types/opaque_other"].attrs["dtype"] = "float8_e4m3fn"
    file["storage/soft"] = h5py.SoftLink("/types/text")
    file["types/outside"] = h5py.ExternalLink("other.h5", "/data")
    file["storage/named_type"] = np.dtype("float32")
    file.create_dataset("storage/committed", data=np.zeros(2, "float32"), dtype=file["storage/named_type"])
    file.create_dataset("storage/external", (2,), "float32", external=[("nowhere.bin", 0, 8)])


UNREADABLE = {
    "storage/scale_offset": "the filter scale-offset",
    "types/big_float": "big-endian floating-point",
    "types/big_int": "big-endian integers",
    "storage/unallocated": "holds no data",
    "types/boolean": "enumeration",
    "types/text": "strings",
    "storage/null": "holds no data",
    "types/compound": "compound",
    "types/opaque": 'no attribute "dtype"',
    "types/opaque_other": "float8_e4m3fn",
    "storage/soft": "soft link",
    "types/outside": "external link",
    "storage/committed": "committed datatype",
    "storage/external": "external files",
}


def write_cycle(file):
    file.create_dataset("group/inner/data", data=np.float32(1))
    file["group/inner/loop"] = file["group"]


def main():
    os.makedirs(FOLDER, exist_ok=True)
    write_keras()
    fixture("types.h5", write_types)
    fixture("many.h5", write_many)
    deep = os.path.join(FOLDER, "deep.h5")
    write_deep(deep)
    EXPECTED["deep.h5"] = read_all(deep)
    fixture("latest.h5", write_latest, libver="latest")
    fixture("unreadable.h5", write_unreadable, UNREADABLE)
    fixture("unreadable_latest.h5", write_unreadable, UNREADABLE, libver=("v108", "v108"))
    fixture("chunked.h5", write_chunked)
    fixture("chunked_latest.h5", write_chunked, libver="latest")
    fixture("many_chunks.h5", write_many_chunks)
    fixture("many_chunks_latest.h5", write_many_chunks, libver="latest")
    fixture("extensible_latest.h5", write_extensible, {"line": "extensible array of chunks"}, libver="latest")
    fixture("dense.h5", write_dense, libver="latest")
    fixture("track_order.h5", write_dense, track_order=True)
    fixture("user_block.h5", write_chunked, userblock_size=1024)
    fixture("user_block_latest.h5", write_links, userblock_size=512, libver="latest")
    fixture("links.h5", write_links)
    fixture("cycle.h5", write_cycle)
    with open(os.path.join(FOLDER, "expected.json"), "w") as file:
        json.dump(EXPECTED, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
