//! What was measured: a table for people, JSON for programs, a plot of every series.

use anyhow::{Context, Result};
use plotters::prelude::{ChartBuilder, IntoDrawingArea, LineSeries, RED, SVGBackend, WHITE};
use serde::Serialize;
use std::{path::Path, time::Duration};

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What it is.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: f64,
    /// Unit of `value` and `floor`.
    pub(crate) unit: &'static str,
    /// The same without us, measured in the same run.
    pub(crate) floor: Option<f64>,
    /// `value / floor`.
    pub(crate) ratio: Option<f64>,
    /// The other program's, for a comparison; `ratio` is to its value then.
    pub(crate) peer: Option<Peer>,
    /// What we aim at, in `unit`; at most.
    pub(crate) goal: Option<f64>,
    /// Whether the goal was met.
    pub(crate) pass: Option<bool>,
}

/// What another program reached in the same run.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its value, in the figure's unit.
    pub(crate) value: f64,
}

impl Figure {
    fn of(name: &str, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            value,
            unit,
            floor: None,
            ratio: None,
            peer: None,
            goal: None,
            pass: None,
        }
    }
}

/// All figures of a run.
#[derive(Debug)]
pub(crate) struct Report {
    set: String,
    begun: jiff::Timestamp,
    figures: Vec<Figure>,
    series: Vec<(String, Vec<f64>)>,
}

impl Report {
    /// Begins a run.
    pub(crate) fn begin(set: &str) -> Self {
        Self {
            set: set.to_owned(),
            begun: daemon::wall_clock::now(),
            figures: Vec::new(),
            series: Vec::new(),
        }
    }

    /// Adds a figure in milliseconds.
    pub(crate) fn milliseconds(&mut self, name: &str, value: f64, floor: Option<f64>, goal: Option<f64>) {
        self.figures.push(Figure {
            floor,
            ratio: floor.map(|floor| value / floor),
            goal,
            pass: goal.map(|goal| value <= goal),
            ..Figure::of(name, value, "ms")
        });
    }

    /// Adds a figure and what it is without us.
    pub(crate) fn beside_floor(&mut self, name: &str, value: f64, unit: &'static str, floor: f64) {
        self.figures.push(Figure {
            floor: Some(floor),
            ratio: Some(value / floor),
            ..Figure::of(name, value, unit)
        });
    }

    /// Adds a figure of which more is better, what it is without us, and what another program reached.
    pub(crate) fn more(
        &mut self,
        name: &str,
        value: f64,
        unit: &'static str,
        floor: f64,
        goal: Option<f64>,
        peer: Option<Peer>,
    ) {
        self.figures.push(Figure {
            floor: Some(floor),
            ratio: Some(value / floor),
            peer,
            goal,
            pass: goal.map(|goal| value >= goal),
            ..Figure::of(name, value, unit)
        });
    }

    /// Adds a figure in microseconds, what it is without us, and what we aim at.
    pub(crate) fn microseconds(&mut self, name: &str, value: f64, floor: f64, goal: f64) {
        self.figures.push(Figure {
            floor: Some(floor),
            ratio: Some(value / floor),
            goal: Some(goal),
            pass: Some(value <= goal),
            ..Figure::of(name, value, "us")
        });
    }

    /// Adds a figure of which more is better, and of what it is without us the part that is the goal.
    pub(crate) fn at_least(&mut self, name: &str, value: f64, unit: &'static str, floor: f64, part: f64) {
        self.more(name, value, unit, floor, Some(floor * part), None);
    }

    /// Adds a figure of which less is better.
    pub(crate) fn at_most(&mut self, name: &str, value: f64, unit: &'static str, goal: f64) {
        self.figures.push(Figure {
            goal: Some(goal),
            pass: Some(value <= goal),
            ..Figure::of(name, value, unit)
        });
    }

    /// Adds a figure of which less is better, and another program's, which is the goal.
    pub(crate) fn beside_peer(&mut self, name: &str, value: f64, unit: &'static str, peer: Peer) {
        self.figures.push(Figure {
            ratio: Some(value / peer.value),
            goal: Some(peer.value),
            pass: Some(value <= peer.value),
            peer: Some(peer),
            ..Figure::of(name, value, unit)
        });
    }

    /// Adds a figure that nothing stands beside.
    pub(crate) fn alone(&mut self, name: &str, value: f64, unit: &'static str) {
        self.figures.push(Figure::of(name, value, unit));
    }

    /// Adds how often something went wrong that never may.
    pub(crate) fn failures(&mut self, name: &str, count: u32) {
        self.at_most(name, f64::from(count), "count", 0.0);
    }

    /// Keeps a series for its plot.
    pub(crate) fn series(&mut self, name: &str, samples: &[Duration]) {
        self.series.push((
            name.to_owned(),
            samples.iter().map(|sample| sample.as_secs_f64() * 1e3).collect(),
        ));
    }

    /// Prints the table, writes the JSON and the plots.
    pub(crate) fn end(self, json: &Path) -> Result<()> {
        println!(
            "{:<76} {:>10} {:>5} {:>10} {:>7} {:>10} {:>8}  pass",
            "figure", "value", "unit", "floor", "ratio", "peer", "goal"
        );
        for figure in &self.figures {
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            let ratio = figure
                .ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let pass = figure.pass.map_or("-", |pass| if pass { "yes" } else { "no" });
            let (value, floor, peer, goal) = (
                number(Some(figure.value)),
                number(figure.floor),
                number(figure.peer.as_ref().map(|peer| peer.value)),
                number(figure.goal),
            );
            println!(
                "{:<76} {value:>10} {:>5} {floor:>10} {ratio:>7} {peer:>10} {goal:>8}  {pass}",
                figure.name, figure.unit
            );
        }
        let machine = serde_json::json!({
            "set": self.set,
            "begun": self.begun,
            "load": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
            "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        });
        let whole = serde_json::json!({ "machine": machine, "figures": self.figures });
        let dir = json.parent().context("the results' directory")?;
        std::fs::create_dir_all(dir)?;
        std::fs::File::create(json).and_then(|file| Ok(serde_json::to_writer_pretty(file, &whole)?))?;
        for (name, samples) in &self.series {
            plot(&dir.join(format!("{}-{name}.svg", self.set)), name, samples)?;
        }
        Ok(())
    }
}

/// Draws the cumulative distribution of a series.
fn plot(path: &Path, name: &str, samples: &[f64]) -> Result<()> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let most = sorted.last().copied().unwrap_or(1.0) * 1.05;
    let area = SVGBackend::new(path, (720, 400)).into_drawing_area();
    area.fill(&WHITE).context("draw the background")?;
    let caption = format!("{name}: share of samples within so many ms");
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(32)
        .y_label_area_size(40)
        .build_cartesian_2d(0.0..most, 0.0..1.0)?;
    chart.configure_mesh().draw()?;
    let share = |index: usize| (index + 1) as f64 / sorted.len() as f64;
    let points: Vec<(f64, f64)> = sorted
        .iter()
        .enumerate()
        .map(|(index, value)| (*value, share(index)))
        .collect();
    chart.draw_series(LineSeries::new(points, &RED))?;
    area.present()?;
    Ok(())
}

/// Returns the middle one.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns the median in milliseconds.
pub(crate) fn p50(samples: &[Duration]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort();
    sorted
        .get(sorted.len() / 2)
        .map_or(f64::NAN, |middle| middle.as_secs_f64() * 1e3)
}
