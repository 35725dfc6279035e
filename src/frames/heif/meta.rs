//! The `meta` box: which items there are, where their bytes lie, what they refer to and what describes them.

use std::collections::BTreeMap;

use super::{
    boxes::{Child, FourCc, Reader, children},
    error::{Code, HeifError},
};

/// Items of a file. A phone's photo has about 60; the largest grid that is read ([`super::grid`]) has 4096 tiles.
const MAX_ITEMS: usize = 16_384;

/// Pieces into which the bytes of all items may fall; one for each item is usual.
const MAX_EXTENTS: usize = 4 * MAX_ITEMS;

/// Associations of properties with items; a tile has about five.
const MAX_ASSOCIATIONS: usize = 16 * MAX_ITEMS;

/// The parsed box; slices point into its bytes.
#[derive(Debug, Default)]
pub(super) struct Meta<'a> {
    pub(super) primary: u32,
    items: BTreeMap<u32, Item<'a>>,
    properties: Vec<Child<'a>>,
    references: Vec<Reference>,
    /// Content of the `idat` box.
    pub(super) idat: &'a [u8],
}

/// One item: an image, a tile, or data about them.
#[derive(Debug, Default)]
pub(super) struct Item<'a> {
    pub(super) kind: FourCc,
    pub(super) protected: bool,
    pub(super) location: Option<Location>,
    /// What describes the image, in the order that the file gives, which is the order of turning and cropping.
    pub(super) properties: Vec<Child<'a>>,
}

/// Where an item's bytes lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Location {
    /// In the `idat` box instead of the file.
    pub(super) in_idat: bool,
    /// Offset and length of each piece; without a length, all to the end.
    pub(super) extents: Vec<(u64, Option<u64>)>,
    /// Why the bytes cannot be read.
    pub(super) unsupported: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reference {
    kind: FourCc,
    from: u32,
    to: Vec<u32>,
}

impl<'a> Meta<'a> {
    /// Parses the content of a `meta` box.
    ///
    /// # Errors
    /// When a box in it is damaged, or there are more items or properties than the limits allow.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, HeifError> {
        let mut reader = Reader::new(*b"meta", bytes);
        reader.full_box()?;
        let mut meta = Self::default();
        let mut primary = None;
        let (mut locations, mut associations) = (BTreeMap::new(), Vec::new());
        for child in children(*b"meta", reader.rest()) {
            let child = child?;
            match &child.kind {
                b"pitm" => primary = Some(primary_item(&child)?),
                b"iinf" => meta.items = items(&child)?,
                b"iloc" => locations = item_locations(&child)?,
                b"iref" => meta.references = references(&child)?,
                b"iprp" => (meta.properties, associations) = properties(&child)?,
                b"idat" => meta.idat = child.body,
                _ => {}
            }
        }
        meta.primary =
            primary.ok_or_else(|| HeifError::Broken("it names no primary image".to_owned()))?;
        for (id, item) in &mut meta.items {
            item.location = locations.remove(id);
        }
        for (id, index) in associations {
            // 0 means none. An index behind the list is a mistake in a file that may be fine otherwise.
            let property = usize::from(index).checked_sub(1);
            let property = property.and_then(|index| meta.properties.get(index));
            if let (Some(item), Some(property)) = (meta.items.get_mut(&id), property) {
                item.properties.push(*property);
            }
        }
        Ok(meta)
    }

    /// # Errors
    /// When there is no such item, or it is encrypted.
    pub(super) fn item(&self, id: u32) -> Result<&Item<'a>, HeifError> {
        let item = self.items.get(&id).ok_or_else(|| {
            HeifError::Broken(format!("it refers to item {id}, which does not exist"))
        })?;
        if item.protected {
            return Err(HeifError::Unsupported("an encrypted image".to_owned()));
        }
        Ok(item)
    }

    /// Returns the first item of a type that is not encrypted.
    pub(super) fn item_of_kind(&self, kind: &FourCc) -> Option<&Item<'a>> {
        let mut items = self.items.values();
        items.find(|item| item.kind == *kind && !item.protected)
    }

    /// The items that `from` refers to by references of type `kind`, in order.
    pub(super) fn references_of(&self, kind: &FourCc, from: u32) -> &[u32] {
        self.references
            .iter()
            .find(|reference| reference.kind == *kind && reference.from == from)
            .map_or(&[], |reference| &reference.to)
    }

    /// The items that refer to `to` by references of type `kind`.
    pub(super) fn referring_to(&self, kind: FourCc, to: u32) -> impl Iterator<Item = u32> {
        self.references
            .iter()
            .filter(move |reference| reference.kind == kind && reference.to.contains(&to))
            .map(|reference| reference.from)
    }
}

impl<'a> Item<'a> {
    /// The first property of a type.
    pub(super) fn property(&self, kind: &FourCc) -> Option<Child<'a>> {
        self.properties.iter().find(|p| p.kind == *kind).copied()
    }
}

fn primary_item(pitm: &Child<'_>) -> Result<u32, HeifError> {
    let mut reader = pitm.reader();
    let (version, _) = reader.full_box()?;
    reader.item_id(version > 0)
}

fn items<'a>(iinf: &Child<'_>) -> Result<BTreeMap<u32, Item<'a>>, HeifError> {
    let mut reader = iinf.reader();
    let (version, _) = reader.full_box()?;
    // The number of entries; those that are there count.
    reader.item_id(version > 0)?;
    let mut items = BTreeMap::new();
    for entry in children(iinf.kind, reader.rest()) {
        let entry = entry?;
        let mut reader = entry.reader();
        let (version, _) = reader.full_box()?;
        // Versions 0 and 1 have no type; no image needs them.
        if entry.kind != *b"infe" || version < 2 {
            continue;
        }
        let id = reader.item_id(version > 2)?;
        let protected = reader.u16()? != 0;
        let kind = reader.fourcc()?;
        if items.len() >= MAX_ITEMS {
            return Err(HeifError::damaged(
                *b"iinf",
                format!("more than {MAX_ITEMS} items"),
            ));
        }
        let item = Item {
            kind,
            protected,
            ..Item::default()
        };
        if items.insert(id, item).is_some() {
            return Err(HeifError::damaged(
                *b"iinf",
                format!("item {id} is there twice"),
            ));
        }
    }
    Ok(items)
}

fn item_locations(iloc: &Child<'_>) -> Result<BTreeMap<u32, Location>, HeifError> {
    let mut reader = iloc.reader();
    let (version, _) = reader.full_box()?;
    if version > 2 {
        return Err(HeifError::damaged(
            iloc.kind,
            format!("version {version} is unknown"),
        ));
    }
    let sizes = usize::from(reader.u16()?);
    let nibble = |i: usize| (sizes >> (12 - 4 * i)) & 0xF;
    let (offset_size, length_size, base_size) = (nibble(0), nibble(1), nibble(2));
    let index_size = if version > 0 { nibble(3) } else { 0 };
    if [offset_size, length_size, base_size, index_size]
        .iter()
        .any(|size| *size > 8)
    {
        return Err(HeifError::damaged(
            iloc.kind,
            "a number of more than 8 bytes",
        ));
    }
    let count = reader.item_id(version > 1)?;
    let mut locations = BTreeMap::new();
    let mut extents_of_all = 0;
    for _ in 0..count {
        let id = reader.item_id(version > 1)?;
        let method = if version > 0 { reader.u16()? & 0xF } else { 0 };
        let elsewhere = reader.u16()? != 0;
        let base = reader.uint(base_size)?;
        let extents = reader.u16()?;
        extents_of_all += usize::from(extents);
        if extents_of_all > MAX_EXTENTS {
            return Err(HeifError::damaged(
                iloc.kind,
                format!("more than {MAX_EXTENTS} extents"),
            ));
        }
        let mut location = Location {
            in_idat: method == 1,
            extents: Vec::with_capacity(usize::from(extents)),
            unsupported: match (elsewhere, method) {
                (true, _) => Some("an image whose data lie in another file"),
                (_, 0 | 1) => None,
                _ => Some("an image whose data are a part of another item's"),
            },
        };
        for _ in 0..extents {
            reader.uint(index_size)?;
            let offset = base.checked_add(reader.uint(offset_size)?).ok_or_else(|| {
                HeifError::damaged(iloc.kind, format!("an offset of item {id} overflows"))
            })?;
            let len = Some(reader.uint(length_size)?).filter(|len| *len > 0);
            location.extents.push((offset, len));
        }
        locations.insert(id, location);
    }
    Ok(locations)
}

fn references(iref: &Child<'_>) -> Result<Vec<Reference>, HeifError> {
    let mut reader = iref.reader();
    let (version, _) = reader.full_box()?;
    let wide = version > 0;
    let mut references = Vec::new();
    for child in children(iref.kind, reader.rest()) {
        let child = child?;
        // Thumbnails, descriptions and all else do not change the image.
        if ![*b"dimg", *b"auxl", *b"prem"].contains(&child.kind) {
            continue;
        }
        let mut reader = child.reader();
        let from = reader.item_id(wide)?;
        let count = reader.u16()?;
        let to = (0..count).map(|_| reader.item_id(wide));
        references.push(Reference {
            kind: child.kind,
            from,
            to: to.collect::<Result<_, _>>()?,
        });
    }
    Ok(references)
}

/// The properties, and pairs of an item and the number of its property, counted from 1.
type Properties<'a> = (Vec<Child<'a>>, Vec<(u32, u16)>);

fn properties<'a>(iprp: &Child<'a>) -> Result<Properties<'a>, HeifError> {
    let (mut properties, mut associations) = (Vec::new(), Vec::new());
    for child in children(iprp.kind, iprp.body) {
        let child = child?;
        match &child.kind {
            b"ipco" => {
                properties = children(child.kind, child.body)
                    .take(MAX_ITEMS)
                    .collect::<Result<_, _>>()?;
            }
            b"ipma" => associate(&child, &mut associations)?,
            _ => {}
        }
    }
    Ok((properties, associations))
}

fn associate(ipma: &Child<'_>, associations: &mut Vec<(u32, u16)>) -> Result<(), HeifError> {
    let mut reader = ipma.reader();
    let (version, flags) = reader.full_box()?;
    let wide = flags & 1 != 0;
    for _ in 0..reader.u32()? {
        let id = reader.item_id(version > 0)?;
        for _ in 0..reader.u8()? {
            // The highest bit says that a reader must know the property.
            let index = match wide {
                true => reader.u16()? & 0x7FFF,
                false => u16::from(reader.u8()? & 0x7F),
            };
            if associations.len() >= MAX_ASSOCIATIONS {
                return Err(HeifError::damaged(
                    ipma.kind,
                    format!("more than {MAX_ASSOCIATIONS} associations"),
                ));
            }
            associations.push((id, index));
        }
    }
    Ok(())
}

/// An item's type for messages, with a name where one is known.
pub(super) fn describe_kind(kind: FourCc) -> String {
    let name = match &kind {
        b"iovl" => "an overlay of several images",
        b"j2k1" => "JPEG 2000",
        b"vvc1" => "VVC (H.266)",
        b"unci" => "uncompressed samples",
        b"evc1" => "EVC",
        _ => return format!("an item of type \"{}\"", Code(kind)),
    };
    format!("{name} (type \"{}\")", Code(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(kind: FourCc, body: &[u8]) -> Child<'_> {
        Child { kind, body }
    }

    #[test]
    fn item_locations_have_numbers_of_every_width() {
        // Version 1: offsets of 4 bytes, lengths of 2, a base of 2, an index of 1; one item in `idat`.
        let mut iloc = vec![1, 0, 0, 0, 0x42, 0x21, 0, 1];
        iloc.extend([0, 7, 0, 1, 0, 0, 0, 10, 0, 2]);
        iloc.extend([9, 0, 0, 0, 5, 0, 3]);
        iloc.extend([9, 0, 0, 1, 0, 0, 0]);
        let all = item_locations(&child(*b"iloc", &iloc)).unwrap();
        let expected = Location {
            in_idat: true,
            extents: vec![(15, Some(3)), (266, None)],
            unsupported: None,
        };
        assert_eq!(all[&7], expected);
        for cut in 0..iloc.len() {
            assert!(item_locations(&child(*b"iloc", &iloc[..cut])).is_err());
        }
    }

    #[test]
    fn extents_without_bytes_are_limited() {
        // No number has a byte, so that 65 535 extents need none.
        let mut iloc = vec![0, 0, 0, 0, 0, 0, 0, 2];
        iloc.extend([0, 1, 0, 0, 0xFF, 0xFF, 0, 2, 0, 0, 0xFF, 0xFF]);
        let e = item_locations(&child(*b"iloc", &iloc)).unwrap_err();
        assert!(e.to_string().contains("extents"), "{e}");
    }

    #[test]
    fn associations_keep_their_order() {
        let mut narrow = Vec::new();
        associate(
            &child(*b"ipma", &[0, 0, 0, 0, 0, 0, 0, 1, 0, 5, 2, 0x83, 1]),
            &mut narrow,
        )
        .unwrap();
        assert_eq!(narrow, [(5, 3), (5, 1)]);
        let mut wide = Vec::new();
        let body = [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 5, 2, 0x80, 3, 1, 0];
        associate(&child(*b"ipma", &body), &mut wide).unwrap();
        assert_eq!(wide, [(5, 3), (5, 256)]);
    }

    #[test]
    fn references_have_items_of_16_or_32_bits() {
        let dimg = [&[0, 0, 0, 16][..], b"dimg", &[0, 9, 0, 2, 0, 1, 0, 2]].concat();
        let iref = [&[0; 4][..], &dimg].concat();
        let all = references(&child(*b"iref", &iref)).unwrap();
        assert_eq!((all[0].from, &all[0].to[..]), (9, &[1, 2][..]));
        let wide = [&[0, 0, 0, 18][..], b"auxl", &[0, 0, 0, 9, 0, 1, 0, 0, 0, 1]].concat();
        let iref = [&[1, 0, 0, 0][..], &wide].concat();
        let all = references(&child(*b"iref", &iref)).unwrap();
        assert_eq!((all[0].from, &all[0].to[..]), (9, &[1][..]));
    }
}
