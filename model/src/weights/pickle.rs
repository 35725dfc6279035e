//! A reader for the pickles that `torch.save` writes around a state dict. Nothing is executed.
//!
//! Only the opcodes that dicts, lists, tuples, strings, numbers and tensors need are known; a class is a name that is
//! compared with a short list, and any other ends the reading. Values live in one table and refer to each other by
//! index, so that neither depth nor a cycle can exhaust the stack, and the table's length is limited.

use std::collections::HashMap;

use candle_core::DType;

use super::{Fault, MAX_RANK};

/// VGGT-1B needs 45 000 steps; this bounds the table at some 100 MB.
const MAX_STEPS: usize = 1 << 20;

/// No class takes more; PyTorch's tensors take six or seven.
const MAX_ARGS: usize = 16;
/// Longest name of a storage or class: what a short pickle names often must not be copied at length.
const MAX_NAME: usize = 256;

/// Index into [`Pickle::values`].
pub(super) type Id = usize;

/// A tensor as the pickle describes it: a view of a storage.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) dtype: DType,
    /// Name of the zip entry below `data/`.
    pub(super) storage: String,
    /// Elements in the storage.
    pub(super) storage_len: usize,
    /// First element of the tensor.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// In elements.
    pub(super) stride: Vec<usize>,
}

/// One value of the pickle.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Nothing,
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Class(Class),
    /// Element type, entry name, length in elements.
    Storage(DType, String, usize),
    Tensor(View),
}

/// The classes that a state dict needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Class {
    OrderedDict,
    Size,
    RebuildTensor,
    RebuildParameter,
    Storage(DType),
}

impl Class {
    fn find(module: &str, name: &str) -> Result<Self, Fault> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "DoubleStorage") => Self::Storage(DType::F64),
            ("torch", "FloatStorage") => Self::Storage(DType::F32),
            ("torch", "HalfStorage") => Self::Storage(DType::F16),
            ("torch", "BFloat16Storage") => Self::Storage(DType::BF16),
            ("torch", "LongStorage") => Self::Storage(DType::I64),
            ("torch", "IntStorage") => Self::Storage(DType::I32),
            ("torch", "ShortStorage") => Self::Storage(DType::I16),
            // A bool is one byte, 0 or 1.
            ("torch", "ByteStorage" | "BoolStorage") => Self::Storage(DType::U8),
            _ => return Err(Fault::Foreign(format!("{module}.{name}"))),
        })
    }
}

/// Everything the pickle holds, and which value is the outermost.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) values: Vec<Value>,
    pub(super) root: Id,
}

/// Reads the whole of `bytes`.
///
/// # Errors
/// On an opcode or class outside the known ones, on a value of the wrong kind, or when the bytes end too early.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle, Fault> {
    let mut machine = Machine {
        input: bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    for _ in 0..MAX_STEPS {
        let started = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(root)) => {
                return Ok(Pickle {
                    values: machine.values,
                    root,
                });
            }
            Err(Fault::Bad(what)) => {
                return Err(Fault::bad(format!("data.pkl at byte {started}: {what}")));
            }
            Err(other) => return Err(other),
        }
    }
    Err(Fault::bad(format!(
        "data.pkl takes more than {MAX_STEPS} steps"
    )))
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at each open MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Executes one opcode; gives the outermost value at STOP.
    fn step(&mut self) -> Result<Option<Id>, Fault> {
        let op = self.byte()?;
        match op {
            // PROTO: any version, since an unknown opcode is refused anyway. FRAME: a hint for buffered readers.
            0x80 => drop(self.byte()?),
            0x95 => drop(self.take(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            // Constants and numbers.
            b'N' | 0x88 | 0x89 => self.push(Value::Nothing),
            b'G' => {
                self.take(8)?;
                self.push(Value::Nothing);
            }
            b'K' => {
                let v = self.byte()?;
                self.push(Value::Int(v.into()));
            }
            b'M' => {
                let v = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(v.into()));
            }
            b'J' => {
                let v = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(v.into()));
            }
            0x8a => {
                let v = self.long()?;
                self.push(Value::Int(v));
            }
            // Strings: BINUNICODE, SHORT_BINUNICODE, and Python 2's BINSTRING, SHORT_BINSTRING.
            b'X' | b'T' => {
                let len = u32::from_le_bytes(self.array()?);
                self.text(len as usize)?;
            }
            0x8c | b'U' => {
                let len = self.byte()?;
                self.text(len.into())?;
            }
            // Containers.
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_many(usize::from(op - 0x84))?;
                self.push(Value::Tuple(items));
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.list()?.push(item);
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.list()?.extend(items);
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let pair = self.pop_many(2)?;
                self.dict()?.push((pair[0], pair[1]));
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                if items.len() % 2 != 0 {
                    return Err(Fault::bad("a dict entry without a value"));
                }
                self.dict()?
                    .extend(items.chunks_exact(2).map(|p| (p[0], p[1])));
            }
            // Memo: BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET.
            b'q' => {
                let key = self.byte()?;
                self.put(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.put(key)?;
            }
            0x94 => {
                let key = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
                self.put(key)?;
            }
            b'h' => {
                let key = self.byte()?;
                self.get(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.get(key)?;
            }
            // Classes and calls: GLOBAL, STACK_GLOBAL, REDUCE, BUILD, BINPERSID.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Value::Class(Class::find(module, name)?));
            }
            0x93 => {
                let pair = self.pop_many(2)?;
                let class = Class::find(self.str(pair[0])?, self.str(pair[1])?)?;
                self.push(Value::Class(class));
            }
            b'R' => self.call()?,
            // An OrderedDict's attributes: PyTorch keeps version numbers (`_metadata`) there, which say nothing here.
            b'b' => drop(self.pop()?),
            b'Q' => self.storage()?,
            _ => {
                return Err(Fault::bad(format!(
                    "the opcode {op:#04x} is not one that a state dict needs"
                )));
            }
        }
        Ok(None)
    }

    fn call(&mut self) -> Result<(), Fault> {
        let pair = self.pop_many(2)?;
        let Value::Class(class) = self.values[pair[0]] else {
            return Err(Fault::bad("a call of something that is no class"));
        };
        let args = self.tuple(pair[1])?;
        if args.len() > MAX_ARGS {
            return Err(Fault::bad(format!(
                "a call of {class:?} with {} arguments",
                args.len()
            )));
        }
        let args = args.to_vec();
        let value = match (class, args.as_slice()) {
            (Class::OrderedDict, []) => Value::Dict(Vec::new()),
            // The value itself, not a copy: many calls may share one.
            (Class::Size, [inner]) | (Class::RebuildParameter, [inner, ..]) => {
                self.stack.push(*inner);
                return Ok(());
            }
            (Class::RebuildTensor, [storage, offset, shape, stride, ..]) => {
                let Value::Storage(dtype, name, len) = &self.values[*storage] else {
                    return Err(Fault::bad("a tensor without a storage"));
                };
                let (shape, stride) = (self.tuple(*shape)?, self.tuple(*stride)?);
                if shape.len() != stride.len() || shape.len() > MAX_RANK {
                    return Err(Fault::bad(format!(
                        "a tensor of {} dimensions with {} strides, at most {MAX_RANK} are read",
                        shape.len(),
                        stride.len()
                    )));
                }
                let (shape, stride) = (self.sizes(shape)?, self.sizes(stride)?);
                Value::Tensor(View {
                    dtype: *dtype,
                    storage: name.clone(),
                    storage_len: *len,
                    offset: self.size(*offset)?,
                    shape,
                    stride,
                })
            }
            _ => {
                return Err(Fault::bad(format!(
                    "a call of {class:?} with {} arguments",
                    args.len()
                )));
            }
        };
        self.push(value);
        Ok(())
    }

    /// BINPERSID: ("storage", class, entry name, device, elements).
    fn storage(&mut self) -> Result<(), Fault> {
        let id = self.pop()?;
        let value = match self.tuple(id)? {
            [tag, class, name, _device, len] if self.str(*tag)? == "storage" => {
                let Value::Class(Class::Storage(dtype)) = self.values[*class] else {
                    return Err(Fault::bad("a storage of no known element type"));
                };
                Value::Storage(dtype, self.str(*name)?.to_owned(), self.size(*len)?)
            }
            _ => return Err(Fault::bad("a reference to something that is no storage")),
        };
        self.push(value);
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let taken = rest
            .get(..len)
            .ok_or_else(|| Fault::bad("it ends in the middle of a value"))?;
        self.at += len;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[b]| b)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// LONG1: little-endian two's complement of a given length.
    fn long(&mut self) -> Result<i64, Fault> {
        let len = usize::from(self.byte()?);
        let bytes = self.take(len)?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut out = if negative { [0xff; 8] } else { [0; 8] };
        out.get_mut(..len)
            .ok_or_else(|| Fault::bad("a number of more than 64 bits"))?
            .copy_from_slice(bytes);
        Ok(i64::from_le_bytes(out))
    }

    fn text(&mut self, len: usize) -> Result<(), Fault> {
        let text = std::str::from_utf8(self.take(len)?)
            .map_err(|_| Fault::bad("text that is not UTF-8"))?;
        self.push(Value::Text(text.to_owned()));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, Fault> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let len = rest
            .iter()
            .take(MAX_NAME)
            .position(|b| *b == b'\n')
            .ok_or_else(|| Fault::bad("a class name without an end"))?;
        let line = self.take(len)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| Fault::bad("a class name that is not UTF-8"))
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        // What lies below an open MARK belongs to the container around it.
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(Fault::bad("a value is missing"));
        }
        self.stack
            .pop()
            .ok_or_else(|| Fault::bad("a value is missing"))
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, Fault> {
        let mut items = (0..count)
            .map(|_| self.pop())
            .collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        Ok(items)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| Fault::bad("an end without a beginning"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn top(&self) -> Result<Id, Fault> {
        self.stack
            .last()
            .copied()
            .ok_or_else(|| Fault::bad("a value is missing"))
    }

    fn list(&mut self) -> Result<&mut Vec<Id>, Fault> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(items) => Ok(items),
            _ => Err(Fault::bad("an item for something that is no list")),
        }
    }

    fn dict(&mut self) -> Result<&mut Vec<(Id, Id)>, Fault> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Dict(items) => Ok(items),
            _ => Err(Fault::bad("an entry for something that is no dict")),
        }
    }

    fn put(&mut self, key: u32) -> Result<(), Fault> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Result<(), Fault> {
        let id = *self
            .memo
            .get(&key)
            .ok_or_else(|| Fault::bad(format!("a reference to value {key}, which is not there")))?;
        self.stack.push(id);
        Ok(())
    }

    fn str(&self, id: Id) -> Result<&str, Fault> {
        match &self.values[id] {
            Value::Text(text) if text.len() > MAX_NAME => Err(Fault::bad("a name without an end")),
            Value::Text(text) => Ok(text),
            _ => Err(Fault::bad("something else where a name should be")),
        }
    }

    fn tuple(&self, id: Id) -> Result<&[Id], Fault> {
        match &self.values[id] {
            Value::Tuple(items) => Ok(items),
            _ => Err(Fault::bad("something else where a tuple should be")),
        }
    }

    fn size(&self, id: Id) -> Result<usize, Fault> {
        match &self.values[id] {
            Value::Int(v) => usize::try_from(*v).map_err(|_| Fault::bad(format!("the size {v}"))),
            _ => Err(Fault::bad("something else where a size should be")),
        }
    }

    fn sizes(&self, ids: &[Id]) -> Result<Vec<usize>, Fault> {
        ids.iter().map(|id| self.size(*id)).collect()
    }
}
