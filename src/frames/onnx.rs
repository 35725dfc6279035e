//! Looks at an ONNX file before the runtime reads it: the runtime allocates what the file's lengths say, and a refused allocation
//! ends the program.
//!
//! The format is protocol buffers: fields of a number, a wire type and a value, where a value of wire type 2 has a length. See
//! onnx.proto3. What a network computes cannot be bounded by looking at it: its file is to be trusted like a program.

/// Messages inside of each other. A graph in an attribute of a node in a graph is refused long before.
const DEPTH_MAX: usize = 32;

/// Largest number in an attribute such as the pads or the strides of a convolution. The sky network's largest is 8.
const ATTRIBUTE_MAX: i64 = 1024;

/// Operators that the sky network does not have, and with which a small file asks for any amount of time or memory.
const REFUSED: [&[u8]; 12] = [
    b"If",
    b"Loop",
    b"Scan",
    b"Range",
    b"Tile",
    b"OneHot",
    b"EyeLike",
    b"RandomNormal",
    b"RandomNormalLike",
    b"RandomUniform",
    b"RandomUniformLike",
    b"SequenceMap",
];

/// The messages that the runtime reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TypeOfTensor,
    TypeOfSequence,
    Shape,
    /// Any without further messages.
    Leaf,
}

impl Message {
    /// The message in the field `number`, if there is one.
    fn inside(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Model, 7) => Self::Graph,
            (Self::Graph, 1) => Self::Node,
            (Self::Node, 5) => Self::Attribute,
            (Self::Graph, 5) | (Self::Attribute, 5) => Self::Tensor,
            (Self::Attribute, 6) => Self::Graph,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TypeOfTensor,
            (Self::Type, 4) => Self::TypeOfSequence,
            (Self::TypeOfSequence, 1) => Self::Type,
            (Self::TypeOfTensor, 2) => Self::Shape,
            (Self::Model, 8 | 14) | (Self::Tensor, 13) | (Self::Shape, 1) => Self::Leaf,
            _ => return None,
        })
    }
}

/// Checks that every length lies inside the file, that tensors have the values that their shapes say, and that no operator
/// makes much of little.
///
/// # Errors
/// What is wrong.
pub(super) fn check(file: &[u8]) -> Result<(), String> {
    message(Message::Model, file, 0)
}

fn message(kind: Message, bytes: &[u8], depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err("its messages are nested too deep".to_owned());
    }
    let mut rest = bytes;
    let mut dims = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => {
                let n = varint(&mut rest)? as i64;
                integer(kind, number, n, &mut dims)?;
                continue;
            }
            1 => take(&mut rest, 8)?,
            2 => {
                let len = varint(&mut rest)?;
                take(&mut rest, len)?
            }
            5 => take(&mut rest, 4)?,
            other => return Err(format!("it has a field of the unknown type {other}")),
        };
        if let Some(inside) = kind.inside(number) {
            message(inside, value, depth + 1)?;
        } else if kind == Message::Node && number == 4 && REFUSED.contains(&value) {
            let name = String::from_utf8_lossy(value);
            return Err(format!(
                "it has the operator {name}, which no sky network has"
            ));
        } else if is_integers(kind, number) {
            let mut packed = value;
            while !packed.is_empty() {
                let n = varint(&mut packed)? as i64;
                integer(kind, number, n, &mut dims)?;
            }
        }
    }
    if kind == Message::Tensor {
        tensor(&dims, bytes.len())?;
    }
    Ok(())
}

/// Whether a field is a list of integers: the dimensions of a tensor, or those of an attribute.
fn is_integers(kind: Message, number: u64) -> bool {
    matches!(
        (kind, number),
        (Message::Tensor, 1) | (Message::Attribute, 8)
    )
}

fn integer(kind: Message, number: u64, n: i64, dims: &mut Vec<i64>) -> Result<(), String> {
    match (kind, number) {
        (Message::Tensor, 1) => dims.push(n),
        (Message::Attribute, 8) if !(-ATTRIBUTE_MAX..=ATTRIBUTE_MAX).contains(&n) => {
            return Err(format!(
                "an attribute of it is {n}, at most {ATTRIBUTE_MAX} is taken"
            ));
        }
        _ => {}
    }
    Ok(())
}

fn tensor(dims: &[i64], bytes: usize) -> Result<(), String> {
    let elements = dims.iter().try_fold(1u64, |product, n| {
        product.checked_mul(u64::try_from(*n).ok()?)
    });
    match elements {
        // Two numbers of 4 bits are a byte.
        Some(elements) if elements / 2 <= bytes as u64 => Ok(()),
        _ => Err(format!(
            "a tensor of the shape {dims:?} has {bytes} bytes in it"
        )),
    }
}

fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], String> {
    let split = usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_at_checked(len));
    let (value, after) = split.ok_or_else(|| {
        format!("a field of {len} bytes lies outside of it: it is cut off or damaged")
    })?;
    *rest = after;
    Ok(value)
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((byte, after)) = rest.split_first() else {
            break;
        };
        *rest = after;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err("it ends inside a number, or is damaged".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of wire type 2.
    fn field(number: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![(number << 3) | 2];
        let mut len = value.len();
        while len >= 0x80 {
            bytes.push(len as u8 | 0x80);
            len >>= 7;
        }
        bytes.push(len as u8);
        bytes.extend(value);
        bytes
    }

    fn model(graph_field: u8, value: &[u8]) -> Vec<u8> {
        field(7, &field(graph_field, value))
    }

    #[test]
    fn what_the_runtime_would_allocate_is_refused_before() {
        // A name of 2^42 bytes, as one wrong byte makes it.
        let long = [(4 << 3) | 2, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1];
        assert!(
            check(&model(1, &long))
                .unwrap_err()
                .contains("4398046511104")
        );
        // 2^40 numbers without a value, in both ways to write a list.
        let n = [0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
        for dims in [field(1, &n), [&[1 << 3][..], &n].concat()] {
            assert!(check(&model(5, &dims)).unwrap_err().contains("shape"));
        }
        let minus = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert!(check(&model(5, &field(1, &minus))).is_err());
        assert!(
            check(&model(1, &field(4, b"Loop")))
                .unwrap_err()
                .contains("Loop")
        );
        let pads = field(5, &field(8, &n));
        assert!(check(&model(1, &pads)).unwrap_err().contains("attribute"));
        let mut deep = field(7, b"");
        for _ in 0..40 {
            deep = field(7, &field(1, &field(5, &field(6, &deep[2..]))));
        }
        assert!(check(&deep).is_err());
    }

    #[test]
    fn the_sky_network_of_the_tests_passes_and_every_cut_of_it_ends() {
        let file = include_bytes!("../../tests/data/sky/tiny.onnx");
        check(file).unwrap();
        for end in 0..file.len().min(4000) {
            let _ = check(&file[..end]);
        }
    }
}
