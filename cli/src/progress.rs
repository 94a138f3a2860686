//! What a pull shows: a bar per layer on a terminal, plain lines otherwise. All of it goes to standard error.

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbox_container::{LayerState, PullOutput};
use rbox_types::{Digest, Reference};

/// Calls `act` with the output that suits standard error.
pub(crate) fn with_output<T>(quiet: bool, act: impl FnOnce(&dyn PullOutput) -> T) -> T {
    if quiet {
        act(&Quiet)
    } else if std::io::stderr().is_terminal() {
        act(&Bars::default())
    } else {
        act(&Lines)
    }
}

/// Nothing at all.
struct Quiet;

impl PullOutput for Quiet {
    fn begin(&self, _: &Reference, _: &[(Digest, u64)]) {}
    fn downloaded(&self, _: usize, _: u64) {}
    fn state(&self, _: usize, _: LayerState) {}
    fn end(&self) {}
    fn copy_begins(&self, _: u64, _: Option<(&str, Option<&str>)>) {}
    fn copied(&self, _: u64) {}
    fn copy_ends(&self) {}
}

/// A line for each thing that is finished.
struct Lines;

impl PullOutput for Lines {
    fn begin(&self, reference: &Reference, layers: &[(Digest, u64)]) {
        let size = layers.iter().map(|(_, size)| size).sum();
        eprintln!("Pulling {reference}: {} layers, {}", layers.len(), crate::output::size(size));
    }

    fn downloaded(&self, _: usize, _: u64) {}

    fn state(&self, layer: usize, state: LayerState) {
        match state {
            LayerState::Present => eprintln!("Layer {}: already here", layer + 1),
            LayerState::Downloaded => eprintln!("Layer {}: downloaded", layer + 1),
            LayerState::Done => eprintln!("Layer {}: done", layer + 1),
        }
    }

    fn end(&self) {}

    fn copy_begins(&self, bytes: u64, why: Option<(&str, Option<&str>)>) {
        let Some((why, hint)) = why else { return };
        eprintln!(
            "rbox: the container gets a copy of its image, {}, which takes its time: {why}",
            crate::output::size(bytes)
        );
        if let Some(hint) = hint {
            eprintln!("hint: {hint}");
        }
    }

    fn copied(&self, _: u64) {}

    fn copy_ends(&self) {}
}

/// A bar per layer.
#[derive(Default)]
struct Bars {
    bars: Mutex<Vec<ProgressBar>>,
    /// Of a copy.
    copy: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn with(&self, layer: usize, act: impl FnOnce(&ProgressBar)) {
        let bars = self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bar) = bars.get(layer) {
            act(bar);
        }
    }
}

impl PullOutput for Bars {
    fn begin(&self, reference: &Reference, layers: &[(Digest, u64)]) {
        eprintln!("Pulling {reference}");
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let style = style("{prefix} {bar:30} {bytes:>10}/{total_bytes:<10} {msg}");
        let bars = layers.iter().map(|(digest, size)| {
            let bar = all.add(ProgressBar::new(*size));
            bar.set_style(style.clone());
            bar.set_prefix(digest.short());
            bar.tick();
            bar
        });
        self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(bars);
    }

    fn downloaded(&self, layer: usize, bytes: u64) {
        self.with(layer, |bar| bar.set_position(bytes));
    }

    fn state(&self, layer: usize, state: LayerState) {
        self.with(layer, |bar| match state {
            LayerState::Present => bar.finish_with_message("already here"),
            LayerState::Downloaded => bar.set_message("unpacking"),
            LayerState::Done => bar.finish_with_message("done"),
        });
    }

    fn end(&self) {
        for bar in self.bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            bar.abandon();
        }
    }

    fn copy_begins(&self, bytes: u64, why: Option<(&str, Option<&str>)>) {
        Lines.copy_begins(bytes, why);
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(style("{bar:30} {bytes:>10}/{total_bytes:<10}"));
        let mut copy = self.copy.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *copy = Some(bar);
    }

    fn copied(&self, bytes: u64) {
        if let Some(bar) = &*self.copy.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            bar.set_position(bytes);
        }
    }

    fn copy_ends(&self) {
        if let Some(bar) = self.copy.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
}
