//! The text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use super::value::Histogram;

/// Text that is being written: families, each with its samples.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a family; the samples that follow are its.
    pub(super) fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        self.line(format_args!("# HELP {name} {help}."));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let (name, labels) = (self.name, braced(labels));
        self.line(format_args!("{name}{labels} {value}"));
    }

    pub(super) fn histogram(&mut self, labels: &[(&str, &str)], times: &Histogram) {
        let name = self.name;
        // Read once: counts that grow in between must not pass the sum of all.
        let buckets: Vec<(f64, u64)> = times.up_to().collect();
        let count = times.count();
        let bounds = buckets.iter().map(|(bound, n)| (bound.to_string(), *n));
        for (bound, n) in bounds.chain([("+Inf".to_owned(), count)]) {
            let all = braced(&[labels, &[("le", &bound)]].concat());
            self.line(format_args!("{name}_bucket{all} {n}"));
        }
        let labels = braced(labels);
        self.line(format_args!("{name}_sum{labels} {}", times.sum_seconds()));
        self.line(format_args!("{name}_count{labels} {count}"));
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn braced(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs = labels.iter().map(|(name, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        format!("{name}=\"{}\"", value.replace('\n', "\\n"))
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_label_breaks_out_of_none() {
        let mut page = Page::default();
        page.family("x_total", "counter", "Of a test");
        page.sample(&[("a", "q\"\\\n}"), ("b", "")], 3);
        assert_eq!(
            page.into_text(),
            "# HELP x_total Of a test.\n# TYPE x_total counter\nx_total{a=\"q\\\"\\\\\\n}\",b=\"\"} 3\n"
        );
    }
}
