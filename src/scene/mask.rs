//! Backgrounds that are recognized by color alone.

/// Nearly black: r + g + b below 16, upstream's limit.
pub(crate) fn is_black(color: [u8; 3]) -> bool {
    color.into_iter().map(u16::from).sum::<u16>() < 16
}

/// Nearly white: r, g and b all above 240, upstream's limit.
pub(crate) fn is_white(color: [u8; 3]) -> bool {
    color.into_iter().all(|c| c > 240)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_upstreams() {
        assert!(is_black([5, 5, 5]) && !is_black([6, 5, 5]) && !is_black([255, 255, 255]));
        assert!(is_white([241, 241, 241]) && !is_white([240, 255, 255]));
    }
}
