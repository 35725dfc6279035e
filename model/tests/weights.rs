//! Opening weights: the right file, and every wrong one.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device};
use vggt_model::weights::{Weights, WeightsError};

pub(crate) const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny/model.pt");
const KEYS: &str = include_str!("data/tiny/keys.txt");

/// Names and shapes of a key list: `name<tab>[a, b]` a line.
fn keys(text: &str) -> Vec<(String, Vec<usize>)> {
    text.lines()
        .map(|line| {
            let (name, shape) = line.split_once('\t').unwrap();
            (name.to_owned(), serde_json::from_str(shape).unwrap())
        })
        .collect()
}

/// A zip archive of stored entries.
pub(crate) fn zip(entries: &[(&str, &[u8])], method: u16, flags: u16) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let (at, len) = (out.len() as u32, data.len() as u32);
        let mut common = Vec::new();
        for word in [20, flags, method, 0, 0, 0, 0] {
            common.extend(u16::to_le_bytes(word));
        }
        common.extend([len.to_le_bytes(), len.to_le_bytes()].concat());
        common.extend([(name.len() as u16).to_le_bytes(), [0; 2]].concat());
        out.extend([b"PK\x03\x04", common.as_slice(), name.as_bytes(), data].concat());
        central.extend([b"PK\x01\x02\x14\x00", common.as_slice(), &[0; 10]].concat());
        central.extend([&at.to_le_bytes(), name.as_bytes()].concat());
    }
    let (at, len, count) = (out.len() as u32, central.len() as u32, entries.len() as u16);
    out.extend(central);
    out.extend(
        [
            b"PK\x05\x06\0\0\0\0".as_slice(),
            &count.to_le_bytes(),
            &count.to_le_bytes(),
        ]
        .concat(),
    );
    out.extend([&len.to_le_bytes()[..], &at.to_le_bytes(), &[0; 2]].concat());
    out
}

fn text(s: &str) -> Vec<u8> {
    [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat()
}

fn int(i: usize) -> Vec<u8> {
    [b"J", &(i as i32).to_le_bytes()[..]].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", items.concat().as_slice(), b"t"].concat()
}

/// One tensor in pickle's words: a view of the storage `key` of `len` values of the torch class `class`.
struct View<'a> {
    class: &'a str,
    key: &'a str,
    len: usize,
    offset: usize,
    shape: &'a [usize],
    stride: &'a [usize],
}

impl View<'_> {
    fn pickle(&self) -> Vec<u8> {
        let class = format!("ctorch\n{}\n", self.class).into_bytes();
        let storage = tuple(&[
            text("storage"),
            class,
            text(self.key),
            text("cpu"),
            int(self.len),
        ]);
        let sizes = |v: &[usize]| tuple(&v.iter().map(|i| int(*i)).collect::<Vec<_>>());
        let args = [
            [storage, b"Q".to_vec()].concat(),
            int(self.offset),
            sizes(self.shape),
            sizes(self.stride),
            b"\x89".to_vec(),
            b"ccollections\nOrderedDict\n)R".to_vec(),
        ];
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n".to_vec(),
            tuple(&args),
            b"R".to_vec(),
        ]
        .concat()
    }
}

fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items = items
        .iter()
        .map(|(name, value)| [text(name), value.clone()].concat());
    [
        b"}(".to_vec(),
        items.collect::<Vec<_>>().concat(),
        b"u".to_vec(),
    ]
    .concat()
}

fn pt(root: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let pickle = [b"\x80\x02", root, b"."].concat();
    let mut entries = vec![("m/data.pkl".to_owned(), pickle.as_slice())];
    entries.extend(
        storages
            .iter()
            .map(|(key, data)| (format!("m/data/{key}"), *data)),
    );
    let entries: Vec<(&str, &[u8])> = entries
        .iter()
        .map(|(name, data)| (name.as_str(), *data))
        .collect();
    zip(&entries, 0, 0)
}

/// `[[0, 1, 2], [3, 4, 5]]` as `a`, the storage transposed as `b`.
fn small_pt() -> Vec<u8> {
    let values: Vec<u8> = (0..6u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
    let view = |shape, stride| {
        View {
            class: "FloatStorage",
            key: "0",
            len: 6,
            offset: 0,
            shape,
            stride,
        }
        .pickle()
    };
    let root = dict(&[("a", view(&[2, 3], &[3, 1])), ("b", view(&[3, 2], &[1, 3]))]);
    pt(&root, &[("0", &values)])
}

/// A safetensors file of this header.
fn st(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn small_st() -> Vec<u8> {
    st(
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}}"#,
        &[0, 0, 128, 63, 0, 0, 0, 192, 64, 64],
    )
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.pt");
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn open(bytes: &[u8]) -> Result<Weights, WeightsError> {
    let (_dir, path) = written(bytes);
    Weights::open(&path)
}

fn values(weights: &Weights, name: &str) -> Vec<f32> {
    let tensor = weights.tensor(name, DType::F32, &Device::Cpu).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The error of opening `bytes`, which must name the file and `word`.
fn refused(bytes: &[u8], word: &str) -> WeightsError {
    let error = open(bytes).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("model.pt") && message.contains(word),
        "{message}"
    );
    error
}

#[test]
fn the_tiny_checkpoint_has_the_names_shapes_and_values_that_pytorch_wrote() {
    let weights = Weights::open(Path::new(TINY)).unwrap();
    let expected = keys(KEYS);
    assert_eq!(weights.len(), expected.len());
    weights.check(&expected).unwrap();
    assert!(weights.iter().all(|(_, entry)| entry.dtype == DType::F32));
    // The first values of the entry `data/0`, as Python's zipfile and struct read them.
    let token = values(&weights, "aggregator.camera_token");
    assert_eq!(
        token[..4],
        [-0.41006726, 0.19781558, 0.44945425, -0.69420195]
    );
    assert_eq!(
        weights.sha256().unwrap(),
        "cec5110b65b31c434cc374da3ec94a441d486776213f09ae77087da234086653"
    );
    assert_eq!(weights.name(), "model.pt");
}

#[test]
fn a_transposed_view_is_read_in_row_major_order() {
    let weights = open(&small_pt()).unwrap();
    assert_eq!(values(&weights, "a"), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(values(&weights, "b"), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(weights.entry("b").unwrap().shape, [3, 2]);
}

#[test]
fn a_state_dict_inside_another_dict_is_found() {
    let tensor = View {
        class: "ByteStorage",
        key: "0",
        len: 1,
        offset: 0,
        shape: &[],
        stride: &[],
    }
    .pickle();
    for key in ["model", "state_dict", "model_state_dict"] {
        let root = dict(&[("epoch", int(3)), (key, dict(&[("w", tensor.clone())]))]);
        let weights = open(&pt(&root, &[("0", &[7])])).unwrap();
        assert_eq!(weights.bytes("w").unwrap().as_ref(), [7]);
    }
}

#[test]
fn the_content_and_not_the_name_tells_the_format() {
    let weights = open(&small_st()).unwrap();
    assert_eq!(values(&weights, "a"), [1.0, -2.0]);
    assert_eq!(values(&weights, "b"), [3.0]);
    let fixed: &'static [u8] = small_st().leak();
    assert_eq!(
        values(&Weights::from_static("demo", fixed).unwrap(), "b"),
        [3.0]
    );
}

#[test]
fn weights_can_be_read_from_many_threads() {
    fn shared<T: Send + Sync + Clone>() {}
    shared::<Weights>();
}

#[test]
fn zip64_sizes_are_read() {
    // The small archive with its directory's end record replaced by the 64-bit form.
    let mut bytes = small_pt();
    let end = bytes.len() - 22;
    let tail = bytes.split_off(end);
    let word = |at: usize| u64::from(u32::from_le_bytes(tail[at..at + 4].try_into().unwrap()));
    let (size, start) = (word(12), word(16));
    bytes.extend([b"PK\x06\x06", &44u64.to_le_bytes()[..], &[0; 12]].concat());
    for number in [2, 2, size, start] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(
        [
            b"PK\x06\x07\0\0\0\0",
            &(end as u64).to_le_bytes()[..],
            &[1, 0, 0, 0],
        ]
        .concat(),
    );
    bytes.extend([b"PK\x05\x06\0\0\0\0".as_slice(), &[0xff; 12], &[0; 2]].concat());
    assert_eq!(values(&open(&bytes).unwrap(), "a").len(), 6);
}

#[test]
fn a_mismatch_counts_each_kind_and_names_the_first_few() {
    let weights = open(&small_pt()).unwrap();
    let mut expected = vec![("a".to_owned(), vec![3, 2])];
    expected.extend((0..5).map(|i| (format!("lost.{i}"), vec![1])));
    let message = weights.check(&expected).unwrap_err().to_string();
    for part in [
        "5 missing (lost.0, lost.1, lost.2, ...)",
        "1 unexpected (b)",
        "1 misshapen (a is [2, 3] and should be [3, 2])",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn files_that_are_no_weights_are_told_apart() {
    let missing = Weights::open(Path::new("no/such/model.pt")).unwrap_err();
    assert!(
        matches!(missing, WeightsError::NotFound { .. }),
        "{missing}"
    );
    let folder = Weights::open(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err();
    assert!(matches!(folder, WeightsError::Io { .. }), "{folder}");
    let page = refused(
        b"\n <!DOCTYPE html><html><body>Sign in</body></html>",
        "web page",
    );
    assert!(matches!(page, WeightsError::WebPage { .. }));
    let pointer = refused(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "git lfs pull",
    );
    assert!(matches!(pointer, WeightsError::LfsPointer { .. }));
    let legacy = refused(
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
        "torch.save",
    );
    assert!(matches!(legacy, WeightsError::Legacy { .. }));
    refused(b"GIF89a.........", "4749463839612e2e");
    assert!(matches!(
        refused(b"", "truncated at 0"),
        WeightsError::Truncated { .. }
    ));
}

#[test]
fn a_pickle_with_a_foreign_class_is_refused_by_name() {
    let named = [b"cos\nsystem\n".as_slice(), &text("true"), b"\x85R"].concat();
    let error = refused(&pt(&named, &[]), "os.system");
    assert!(matches!(error, WeightsError::ForeignClass { .. }));
    let stacked = [
        b"\x8c\x08builtins\x8c\x04eval\x93".as_slice(),
        &text("1"),
        b"\x85R",
    ]
    .concat();
    refused(&pt(&stacked, &[]), "builtins.eval");
}

#[test]
fn a_tensor_outside_its_storage_is_refused() {
    let good = View {
        class: "FloatStorage",
        key: "0",
        len: 4,
        offset: 0,
        shape: &[4],
        stride: &[1],
    };
    let try_view = |view: View<'_>, word: &str| {
        refused(
            &pt(&dict(&[("w", view.pickle())]), &[("0", &[0; 16])]),
            word,
        );
    };
    try_view(View { offset: 1, ..good }, "does not fit");
    try_view(
        View {
            stride: &[2],
            ..good
        },
        "does not fit",
    );
    try_view(
        View {
            shape: &[5],
            ..good
        },
        "does not fit",
    );
    // A stride of zero would let sixteen bytes claim eight gigabytes.
    try_view(
        View {
            shape: &[i32::MAX as usize],
            stride: &[0],
            ..good
        },
        "does not fit",
    );
    let wide = [i32::MAX as usize; 8];
    try_view(
        View {
            shape: &wide,
            stride: &wide,
            ..good
        },
        "does not fit",
    );
    try_view(
        View {
            shape: &[1; 9],
            stride: &[1; 9],
            ..good
        },
        "dimensions",
    );
    try_view(View { len: 5, ..good }, "should hold 5 values");
    try_view(View { key: "1", ..good }, "not in the archive");
    try_view(
        View {
            shape: &[2, 2],
            ..good
        },
        "strides",
    );
    try_view(
        View {
            class: "ComplexFloatStorage",
            ..good
        },
        "torch.ComplexFloatStorage",
    );
}

#[test]
fn a_value_that_is_named_often_is_not_copied_often() {
    // One long text or tuple, put into the memo and taken out again 100 000 times: terabytes if each were a copy.
    let long = "x".repeat(1 << 20);
    let many = |prefix: Vec<u8>, each: &[u8]| [prefix, each.repeat(100_000)].concat();
    let tensor = View {
        class: "ByteStorage",
        key: "0",
        len: 1,
        offset: 0,
        shape: &[],
        stride: &[],
    }
    .pickle();
    let pairs = [text(&long), b"q\x00".to_vec(), tensor, b"q\x01}(".to_vec()].concat();
    refused(
        &pt(
            &[many(pairs, b"h\x00h\x01"), b"u".to_vec()].concat(),
            &[("0", &[7])],
        ),
        "entries",
    );
    let wide = [b"(".to_vec(), b"K\x01".repeat(100_000), b"tq\x00".to_vec()].concat();
    let size = [wide, b"ctorch\nSize\nq\x01".to_vec()].concat();
    refused(&pt(&many(size, b"h\x01h\x00\x85R"), &[]), "no dict");
    let name = format!("ctorch\n{long}\n");
    assert!(
        refused(&pt(name.as_bytes(), &[]), "class name")
            .to_string()
            .len()
            < 1000
    );
}

#[test]
fn zip_entries_that_are_not_stored_plainly_are_refused() {
    refused(&zip(&[("m/data.pkl", b"}.")], 8, 0), "compressed");
    refused(&zip(&[("m/data.pkl", b"}.")], 0, 1), "encrypted");
    refused(
        &zip(&[("m/data.pkl", b"}."), ("m/data.pkl", b"}.")], 0, 0),
        "twice",
    );
    refused(&zip(&[("word/document.xml", b"<a/>")], 0, 0), "data.pkl");
    refused(
        &zip(&[("m/data.pkl", b"}."), ("m/byteorder", b"big")], 0, 0),
        "big-endian",
    );
}

#[test]
fn one_name_for_two_tensors_is_refused() {
    let tensor = View {
        class: "ByteStorage",
        key: "0",
        len: 1,
        offset: 0,
        shape: &[],
        stride: &[],
    }
    .pickle();
    let root = dict(&[("w", tensor.clone()), ("w", tensor)]);
    let error = refused(&pt(&root, &[("0", &[7])]), "twice");
    assert!(matches!(error, WeightsError::Duplicate { .. }));
    let entry = r#""a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    refused(&st(&format!("{{{entry},{entry}}}"), &[]), "twice");
}

#[test]
fn a_safetensors_header_that_lies_is_refused() {
    let one = |dtype: &str, shape: &str, offsets: &str, data: &[u8], word: &str| {
        let header =
            format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
        refused(&st(&header, data), word)
    };
    one("F32", "[2]", "[0,4]", &[0; 4], "does not take the bytes");
    one("F32", "[1]", "[4,0]", &[0; 4], "does not take the bytes");
    one("F32", "[1]", "[1,5]", &[0; 5], "gap");
    one(
        "F32",
        "[4294967296,4294967296]",
        "[0,0]",
        &[],
        "does not take the bytes",
    );
    one(
        "F32",
        "[1]",
        "[18446744073709551608,18446744073709551612]",
        &[0; 4],
        "outside",
    );
    one("F32", "[-1]", "[0,4]", &[0; 4], "header");
    one("F32", "[1]", "[0,4]", &[0; 9], "follow");
    one("F4", "[1]", "[0,4]", &[0; 4], "F4");
    let cut = one("F32", "[1]", "[0,4]", &[0; 3], "truncated");
    assert!(matches!(cut, WeightsError::Truncated { .. }));
    let two = r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}"#;
    refused(&st(two, &[0; 3]), "overlaps");
    refused(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "claims");
    refused(&[&100u64.to_le_bytes()[..], b"{}"].concat(), "truncated");
    // Depth that a recursive reader would put on its stack.
    refused(
        &st(&format!("{{\"w\":{}", "[".repeat(100_000)), &[]),
        "header",
    );
}

#[test]
fn every_truncation_is_an_error() {
    for good in [small_pt(), small_st()] {
        let (_dir, path) = written(&good);
        let file = File::options().write(true).open(&path).unwrap();
        for len in (0..good.len()).rev() {
            file.set_len(len as u64).unwrap();
            assert!(
                Weights::open(&path).is_err(),
                "{len} of {} bytes",
                good.len()
            );
        }
    }
    let (_dir, path) = written(&fs::read(TINY).unwrap());
    let file = File::options().write(true).open(&path).unwrap();
    let full = file.metadata().unwrap().len();
    for len in (0..64).map(|i| full - 1 - i * i * 900) {
        file.set_len(len).unwrap();
        let error = Weights::open(&path).unwrap_err();
        assert!(
            matches!(error, WeightsError::Truncated { .. }),
            "{len}: {error}"
        );
    }
}

/// Deterministic noise: the same bytes in every run. Constants of Knuth's MMIX generator.
pub(crate) fn noise(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

/// Opens `bytes` with one to three bytes of `region` changed, `rounds` times, and reads every tensor that is found.
fn survives_changes(bytes: &[u8], region: std::ops::Range<usize>, rounds: usize) {
    let (_dir, path) = written(bytes);
    let mut file = File::options().write(true).open(&path).unwrap();
    let mut state = 1;
    let mut refused = 0;
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for round in 0..rounds {
        let spots: Vec<usize> = (0..1 + round % 3)
            .map(|_| region.start + noise(&mut state) % region.len())
            .collect();
        for at in &spots {
            let byte = if noise(&mut state).is_multiple_of(2) {
                bytes[*at] ^ (1 << (noise(&mut state) % 8))
            } else {
                noise(&mut state) as u8
            };
            put(*at, byte);
        }
        match Weights::open(&path) {
            Err(_) => refused += 1,
            Ok(weights) => {
                for (name, entry) in weights.iter() {
                    let read = weights.bytes(name).unwrap().len();
                    assert_eq!(read, entry.elem_count() * entry.dtype.size_in_bytes());
                    assert!(read <= bytes.len());
                }
            }
        }
        for at in spots {
            put(at, bytes[at]);
        }
    }
    assert!(
        refused > rounds / 10,
        "only {refused} of {rounds} changes were noticed"
    );
}

#[test]
fn changed_bytes_never_panic_or_reach_outside_the_file() {
    let small = small_pt();
    survives_changes(&small, 0..small.len(), 6000);
    let header = small_st();
    survives_changes(&header, 0..header.len(), 6000);
    // The real pickle: data.pkl lies at the beginning of the file.
    survives_changes(&fs::read(TINY).unwrap(), 0..112_000, 600);
    let tiny = fs::read(TINY).unwrap();
    survives_changes(&tiny, tiny.len() - 40_000..tiny.len(), 300);
}
