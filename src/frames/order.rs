//! The order of names that people expect: img2 before img10.

use std::{cmp::Ordering, ffi::OsStr};

/// Compares two file names: numbers by their value, letters without regard to case. Names that only differ in case or in
/// leading zeros have a fixed order too, so that the order does not depend on the file system.
pub fn natural(a: &OsStr, b: &OsStr) -> Ordering {
    let without_case = |name: &OsStr| name.to_string_lossy().to_lowercase();
    by_parts(without_case(a).as_bytes(), without_case(b).as_bytes())
        .then_with(|| a.as_encoded_bytes().cmp(b.as_encoded_bytes()))
}

fn by_parts(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let (digits_a, digits_b) = (digits(a), digits(b));
        let order = if digits_a > 0 && digits_b > 0 {
            let order = by_value(&a[..digits_a], &b[..digits_b]);
            (a, b) = (&a[digits_a..], &b[digits_b..]);
            order
        } else {
            let (Some(byte_a), Some(byte_b)) = (a.first(), b.first()) else {
                return a.len().cmp(&b.len());
            };
            let order = byte_a.cmp(byte_b);
            (a, b) = (&a[1..], &b[1..]);
            order
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn digits(name: &[u8]) -> usize {
    name.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// Compares numbers of any length.
fn by_value(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |number: &[u8]| number.iter().take_while(|b| **b == b'0').count();
    let (a, b) = (&a[significant(a)..], &b[significant(b)..]);
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut names: Vec<&str>) -> Vec<&str> {
        names.sort_by(|a, b| natural(a.as_ref(), b.as_ref()));
        names
    }

    #[test]
    fn numbers_count_by_their_value_and_letters_without_case() {
        let expected = [
            "a.jpg",
            "B.jpg",
            "IMG_1.jpg",
            "img_2.jpg",
            "IMG_10.jpg",
            "img_10_1.jpg",
            "img_10_02.jpg",
            "Img_10_12.jpg",
            "img_99999999999999999999998.jpg",
            "img_99999999999999999999999.jpg",
        ];
        let mut names = expected.to_vec();
        names.reverse();
        assert_eq!(sorted(names), expected);
    }

    #[test]
    fn letters_of_any_script_have_no_case() {
        let expected = [
            "Ä_1.jpg",
            "ä_2.jpg",
            "Ä_10.jpg",
            "я1.jpg",
            "Я2.jpg",
            "я10.jpg",
        ];
        let mut names = expected.to_vec();
        names.reverse();
        assert_eq!(sorted(names), expected);
    }

    #[test]
    fn the_order_is_total() {
        let names = [
            "", "0", "00", "01", "1", "1a", "01a", "1A", "a", "A", "a1", "a01", "A1", "a 1", "ä",
            "Ä", "ä1", "é", "a10", "a2", "10", "9", "-1",
        ];
        for a in names {
            for b in names {
                let (ab, ba) = (
                    natural(a.as_ref(), b.as_ref()),
                    natural(b.as_ref(), a.as_ref()),
                );
                assert_eq!(ab, ba.reverse(), "{a:?} {b:?}");
                assert_eq!(ab.is_eq(), a == b, "{a:?} {b:?}");
                for c in names {
                    let bc = natural(b.as_ref(), c.as_ref());
                    let ac = natural(a.as_ref(), c.as_ref());
                    assert!(
                        !(ab.is_lt() && bc.is_lt()) || ac.is_lt(),
                        "{a:?} {b:?} {c:?}"
                    );
                }
            }
        }
    }
}
