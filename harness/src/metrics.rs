//! The few numbers of `/metrics` (Prometheus text) that people and tests read.

/// One reading of a service's metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<(String, f64)>,
}

impl Metrics {
    /// Reads the text of `/metrics`.
    pub fn parse(text: &str) -> Metrics {
        Metrics {
            samples: text.lines().filter_map(sample).collect(),
        }
    }

    /// The sample without labels, or the sum of those with: `freehold_dead_letters` of all consumers.
    pub fn get(&self, name: &str) -> Option<f64> {
        let of_name = |sample: &&(String, f64)| sample.0.split('{').next() == Some(name);
        let values: Vec<_> = self
            .samples
            .iter()
            .filter(of_name)
            .map(|sample| sample.1)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// The sample with this label.
    pub fn labelled(&self, name: &str, label: &str, value: &str) -> Option<f64> {
        let wanted = format!("{label}=\"{value}\"");
        let carries = |sample: &&(String, f64)| {
            sample
                .0
                .split_once('{')
                .is_some_and(|(known, labels)| known == name && labels.contains(&wanted))
        };
        self.samples.iter().find(carries).map(|sample| sample.1)
    }
}

/// `name{label="value"} 12.5 [timestamp]`. Label values may contain spaces, hence the split at the brace first.
fn sample(line: &str) -> Option<(String, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line
        .find('}')
        .map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
    let (name, rest) = line.split_at(name_end);
    Some((
        name.to_owned(),
        rest.split_whitespace().next()?.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_gauges_with_and_without_labels() {
        let text = "# HELP freehold_outbox_head last\n# TYPE freehold_outbox_head gauge\nfreehold_outbox_head 42\n\
                    freehold_dead_letters{consumer=\"a b\"} 1\nfreehold_dead_letters{consumer=\"c\"} 2 1700000000\n\nodd\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.get("freehold_outbox_head"), Some(42.0));
        assert_eq!(metrics.get("freehold_dead_letters"), Some(3.0));
        assert_eq!(
            metrics.labelled("freehold_dead_letters", "consumer", "a b"),
            Some(1.0)
        );
        assert_eq!(
            metrics.labelled("freehold_dead_letters", "consumer", "b"),
            None
        );
        assert_eq!(metrics.get("freehold_outbox"), None);
    }
}
