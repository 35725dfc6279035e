//! COLMAP's text form: comments after `#`, one record a line (images take two), numbers so that they read back
//! to the same bits.

use std::io::{self, Write};

use super::Model;
use crate::scene::Provenance;

pub(super) fn cameras(
    model: &Model<'_>,
    provenance: &Provenance,
    out: &mut impl Write,
) -> io::Result<()> {
    let columns = "CAMERA_ID, MODEL, WIDTH, HEIGHT, FX, FY, CX, CY (OPENCV: K1, K2, P1, P2)";
    head(columns, "cameras", model.lenses().count(), provenance, out)?;
    for image in model.lenses() {
        let (name, _, parameters) = image.lens();
        let (width, height) = (image.original.width, image.original.height);
        write!(out, "{} {name} {width} {height}", image.id)?;
        for parameter in parameters {
            write!(out, " {parameter}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(super) fn images(
    model: &Model<'_>,
    provenance: &Provenance,
    out: &mut impl Write,
) -> io::Result<()> {
    let columns =
        "IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME, then a line of (X, Y, POINT3D_ID)";
    head(columns, "images", model.images.len(), provenance, out)?;
    for image in &model.images {
        let ([qw, qx, qy, qz], [tx, ty, tz]) = (image.quaternion, image.translation());
        let (id, name) = (image.id, without_blanks(&image.original.name));
        let camera = image.camera;
        writeln!(
            out,
            "{id} {qw} {qx} {qy} {qz} {tx} {ty} {tz} {camera} {name}"
        )?;
        for (i, (point, [x, y])) in model.observations(image).enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(out, "{gap}{x} {y} {point}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

pub(super) fn points(
    model: &Model<'_>,
    provenance: &Provenance,
    out: &mut impl Write,
) -> io::Result<()> {
    let columns = "POINT3D_ID, X, Y, Z, R, G, B, ERROR, then the track of (IMAGE_ID, POINT2D_IDX)";
    head(columns, "points", model.len(), provenance, out)?;
    for point in model.points3d() {
        let ([x, y, z], [r, g, b]) = (point.position, point.color);
        write!(out, "{} {x} {y} {z} {r} {g} {b} {}", point.id, point.error)?;
        for (image, index) in point.elements {
            write!(out, " {image} {index}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn head(
    columns: &str,
    what: &str,
    count: usize,
    provenance: &Provenance,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "# {columns}")?;
    let provenance = provenance.in_world().to_line();
    writeln!(out, "# {count} {what}, {provenance}")
}

/// COLMAP ends a name at the first blank: blanks and control characters become `%` and their bytes in hex.
fn without_blanks(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_whitespace() || c.is_control() {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word() {
        assert_eq!(without_blanks("d/my photo\t1.png"), "d/my%20photo%091.png");
        assert_eq!(without_blanks("ünï.png"), "ünï.png");
    }
}
