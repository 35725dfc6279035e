//! A reader of GLB files of its own, and what they are written with.

use serde_json::{Value, json};
use vggt::scene::Provenance;

pub(crate) fn provenance() -> Provenance {
    Provenance::new(
        "tests",
        Some("00ff".repeat(16)),
        3,
        json!({"conf_thres": 3.0, "note": "line\nbreak"}),
    )
}

pub(crate) struct Glb {
    pub(crate) json: Value,
    pub(crate) binary: Vec<u8>,
}

impl Glb {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!(&bytes[..4], b"glTF");
        assert_eq!((word(4), word(8)), (2, bytes.len()));
        let json = word(12);
        assert_eq!((&bytes[16..20], json % 4), (&b"JSON"[..], 0));
        let binary = 20 + json;
        assert_eq!(&bytes[binary + 4..binary + 8], b"BIN\0");
        assert_eq!(binary + 8 + word(binary), bytes.len());
        Self {
            json: serde_json::from_slice(&bytes[20..binary]).unwrap(),
            binary: bytes[binary + 8..].to_vec(),
        }
    }

    /// The numbers of an accessor, normalized ones in [0, 1].
    pub(crate) fn accessor(&self, index: &Value) -> Vec<Vec<f64>> {
        let accessor = &self.json["accessors"][index.as_u64().unwrap() as usize];
        let view = &self.json["bufferViews"][accessor["bufferView"].as_u64().unwrap() as usize];
        let number = |v: &Value| v.as_u64().unwrap_or(0) as usize;
        let width = match accessor["type"].as_str().unwrap() {
            "SCALAR" => 1,
            "VEC3" => 3,
            _ => 4,
        };
        let kind = number(&accessor["componentType"]);
        let bytes = [(5121, 1), (5123, 2), (5126, 4)]
            .into_iter()
            .find(|(k, _)| *k == kind)
            .unwrap()
            .1;
        let stride = view["byteStride"]
            .as_u64()
            .map_or(width * bytes, |s| s as usize);
        let start = number(&view["byteOffset"]) + number(&accessor["byteOffset"]);
        let normalized = accessor["normalized"].as_bool().unwrap_or(false);
        (0..number(&accessor["count"]))
            .map(|i| {
                (0..width)
                    .map(|c| {
                        let at = start + i * stride + c * bytes;
                        let b = &self.binary[at..at + bytes];
                        let (value, most) = match bytes {
                            1 => (f64::from(b[0]), 255.0),
                            2 => (
                                f64::from(u16::from_le_bytes(b.try_into().unwrap())),
                                65535.0,
                            ),
                            _ => (f64::from(f32::from_le_bytes(b.try_into().unwrap())), 1.0),
                        };
                        if normalized { value / most } else { value }
                    })
                    .collect()
            })
            .collect()
    }

    pub(crate) fn node(&self, name: &str) -> &Value {
        let nodes = self.json["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["name"] == name).unwrap()
    }

    pub(crate) fn primitive(&self, name: &str) -> &Value {
        let mesh = self.node(name)["mesh"].as_u64().unwrap() as usize;
        &self.json["meshes"][mesh]["primitives"][0]
    }

    pub(crate) fn attribute(&self, name: &str, attribute: &str) -> Vec<Vec<f64>> {
        self.accessor(&self.primitive(name)["attributes"][attribute])
    }
}
