//! COLMAP's binary form: little-endian, counts first, nothing between the fields.
//!
//! | file | each record |
//! |---|---|
//! | cameras.bin | u32 id, i32 model (1 = PINHOLE, 4 = OPENCV), u64 width, u64 height, f64 fx fy cx cy (and k1 k2 p1 p2) |
//! | images.bin | u32 id, f64 qw qx qy qz, f64 tx ty tz, u32 camera, name and NUL, u64 count, count x (f64 x, f64 y, u64 point) |
//! | points3D.bin | u64 id, f64 x y z, u8 r g b, f64 error, u64 track length, length x (u32 image, u32 index) |

use std::io::{self, Write};

use super::Model;

pub(super) fn cameras(model: &Model<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&(model.lenses().count() as u64).to_le_bytes())?;
    for image in model.lenses() {
        let (_, number, parameters) = image.lens();
        out.write_all(&image.id.to_le_bytes())?;
        out.write_all(&number.to_le_bytes())?;
        out.write_all(&u64::from(image.original.width).to_le_bytes())?;
        out.write_all(&u64::from(image.original.height).to_le_bytes())?;
        floats(&parameters, out)?;
    }
    Ok(())
}

pub(super) fn images(model: &Model<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&(model.images.len() as u64).to_le_bytes())?;
    for image in &model.images {
        out.write_all(&image.id.to_le_bytes())?;
        floats(&image.quaternion, out)?;
        floats(&image.translation(), out)?;
        out.write_all(&image.camera.to_le_bytes())?;
        out.write_all(image.original.name.as_bytes())?;
        out.write_all(&[0])?;
        out.write_all(&(model.observations(image).count() as u64).to_le_bytes())?;
        for (id, center) in model.observations(image) {
            floats(&center, out)?;
            out.write_all(&id.to_le_bytes())?;
        }
    }
    Ok(())
}

pub(super) fn points(model: &Model<'_>, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&(model.len() as u64).to_le_bytes())?;
    for point in model.points3d() {
        out.write_all(&point.id.to_le_bytes())?;
        floats(&point.position, out)?;
        out.write_all(&point.color)?;
        floats(&[point.error], out)?;
        out.write_all(&(point.elements.len() as u64).to_le_bytes())?;
        for (image, index) in point.elements {
            out.write_all(&image.to_le_bytes())?;
            out.write_all(&index.to_le_bytes())?;
        }
    }
    Ok(())
}

fn floats(values: &[f64], out: &mut impl Write) -> io::Result<()> {
    values
        .iter()
        .try_for_each(|x| out.write_all(&x.to_le_bytes()))
}
