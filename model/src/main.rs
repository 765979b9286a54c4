//! Prints what the model says: the table of rules, the large bounds, or a walk.

#![expect(clippy::print_stdout, reason = "a report is for the terminal")]

use std::process::ExitCode;

use clap::Parser;
use protocol_model::{
    ANYTHING, Bounds, CASES, COVERED, Case, DECIDED, Doctrine, Early, Effort, ONE_WRITER, Outcome,
    Property, Protocol, Rules, SAFETY, TWO_WRITERS, Walk, broken_at_end, rest_is_reachable, search,
};

/// Freehold's protocol as a model. Without a choice: the small bounds, in a few seconds.
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
struct Cli {
    /// Leave each rule out alone and print what breaks: a minute
    #[arg(long)]
    rules: bool,
    /// The large bounds: four minutes and a gigabyte of memory
    #[arg(long)]
    large: bool,
    /// Print a random walk of 40 actions from this seed, followed to rest
    #[arg(long, value_name = "SEED")]
    walk: Option<u64>,
    /// Give up a search after so many seconds
    #[arg(long, default_value_t = 300)]
    at_most_s: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let effort = Effort::seconds(cli.at_most_s);
    let as_expected = match cli {
        Cli {
            walk: Some(seed), ..
        } => {
            let bounds = Bounds::new(8, 4, ANYTHING).consumers(2);
            println!("{}", Walk::draw(seed, bounds, 40).then_rest(seed, bounds));
            true
        }
        Cli { rules: true, .. } => rules(effort),
        Cli { large: true, .. } => bounds(LARGE, effort.threads(2)),
        _ => bounds(SMALL, effort.threads(2)) & liveness(),
    };
    match as_expected {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A search in which everything must hold.
type Named = (&'static str, Bounds, &'static [Property]);

const SMALL: &[Named] = &[
    ("one writer", Bounds::new(2, 2, ONE_WRITER), &SAFETY),
    ("two writers", Bounds::new(2, 2, TWO_WRITERS), &SAFETY),
    (
        "two writers, connections lost",
        Bounds::new(2, 2, ANYTHING),
        &SAFETY,
    ),
    (
        "two consumers",
        Bounds::new(2, 2, ONE_WRITER).consumers(2),
        &SAFETY,
    ),
    (
        "no decision for the broker's faults",
        Bounds::new(2, 2, "WTSDtcRlx"),
        &[Property::F],
    ),
    (
        "no decision for a marked restore",
        Bounds::new(3, 1, "Plx"),
        &[Property::F],
    ),
    (
        "no decision for any restore while the broker is there",
        Bounds::new(3, 2, "PuRclx").early(Early::Reachable),
        &[Property::F],
    ),
    (
        "the loser runs on",
        Bounds::new(3, 1, ANYTHING).doctrine(Doctrine::SurvivorLives),
        &DECIDED,
    ),
];

const LARGE: &[Named] = &[
    ("one writer", Bounds::new(4, 3, ONE_WRITER), &SAFETY),
    (
        "two writers, no D c R",
        Bounds::new(3, 2, "WTSPKCutl"),
        &SAFETY,
    ),
    (
        "two writers, connections lost",
        Bounds::new(3, 2, ANYTHING),
        &SAFETY,
    ),
    ("two writers", Bounds::new(2, 3, TWO_WRITERS), &SAFETY),
    ("two writers", Bounds::new(3, 3, "WTtPCRl"), &SAFETY),
    (
        "two writers, two consumers",
        Bounds::new(2, 2, TWO_WRITERS).consumers(2),
        &SAFETY,
    ),
    (
        "the loser runs on",
        Bounds::new(2, 2, TWO_WRITERS).doctrine(Doctrine::SurvivorLives),
        &DECIDED,
    ),
    (
        "contradictory choices, up to 3",
        Bounds::new(3, 1, TWO_WRITERS).doctrine(Doctrine::Free(3)),
        &SAFETY,
    ),
    (
        "contradictory choices, up to 2",
        Bounds::new(2, 2, "WPCl").doctrine(Doctrine::Free(2)),
        &SAFETY,
    ),
    (
        "one writer, writes before contact always",
        Bounds::new(3, 3, ONE_WRITER).early(Early::Always),
        &SAFETY,
    ),
    (
        "two writers, writes before contact always",
        Bounds::new(3, 2, TWO_WRITERS).early(Early::Always),
        &SAFETY,
    ),
    (
        "two writers, the broker is there",
        Bounds::new(3, 2, TWO_WRITERS).early(Early::Reachable),
        &SAFETY,
    ),
];

fn bounds(searches: &[Named], effort: Effort) -> bool {
    println!("| bounds | commits | faults | states | steps | time | result |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut all_hold = true;
    for (name, bounds, properties) in searches {
        let seen = search(Protocol::new(Rules::ALL, *bounds), properties, effort);
        println!(
            "| {name} ({:?}) | {} | {} | {} | {} | {:.1} s | {} |",
            bounds.kinds,
            bounds.commits,
            bounds.faults,
            seen.states,
            seen.depth,
            seen.took.as_secs_f32(),
            result(&seen, properties)
        );
        all_hold &= seen.broken.is_empty();
    }
    all_hold
}

fn result(seen: &Outcome, properties: &[Property]) -> String {
    let letters: String = properties.iter().map(|property| property.name()).collect();
    match (&seen.broken[..], seen.complete) {
        ([], true) => format!("{letters} hold, complete"),
        ([], false) => format!("{letters}: none found, not complete"),
        (broken, _) => format!("FAILS: {broken:?}"),
    }
}

fn liveness() -> bool {
    let mut all_live = true;
    for (commits, faults, kinds) in [(2, 3, ONE_WRITER), (2, 2, TWO_WRITERS)] {
        let seen = rest_is_reachable(&Protocol::new(
            Rules::ALL,
            Bounds::new(commits, faults, kinds),
        ));
        println!(
            "L, {commits} commits, {faults} faults, {kinds}: {} states, {} at rest, {:.1} s, dead end: {:?}",
            seen.states,
            seen.at_rest,
            seen.took.as_secs_f32(),
            seen.dead_end
        );
        all_live &= seen.dead_end.is_none();
    }
    all_live
}

fn rules(effort: Effort) -> bool {
    println!("| off | first model: properties, steps, faults | ours | states | time | story |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let cases = CASES.iter().chain(COVERED);
    cases.fold(true, |all_as_expected, case| {
        rule(case, effort) & all_as_expected
    })
}

fn rule(case: &Case, effort: Effort) -> bool {
    let protocol = case.wide();
    // Where no shortest path is asked for, two threads may look.
    let threads = if case.ours.is_some() { 1 } else { 2 };
    let seen = case.look(protocol, effort.threads(threads));
    let path = seen.broken.first().map(|(_, path)| path);
    let ours = match path {
        Some(path) => {
            let faults = path
                .iter()
                .filter(|action| action.fault().is_some())
                .count();
            format!(", {}, {faults}", path.len())
        }
        None if seen.complete => "none, complete".to_owned(),
        None => "none, not complete".to_owned(),
    };
    let letters = path.map_or(String::new(), |path| {
        all_broken(&protocol, case.property, path)
    });
    println!(
        "| {} | {} | {letters}{ours} | {} | {:.1} s | {}: `{}` |",
        case.name,
        case.first_model,
        seen.states,
        seen.took.as_secs_f32(),
        case.story,
        Walk(path.cloned().unwrap_or_default())
    );
    path.map(Vec::len) == case.ours
}

/// The property asked for and all others that fail in the same state.
fn all_broken(protocol: &Protocol, asked: Property, path: &[protocol_model::Action]) -> String {
    let mut broken = broken_at_end(protocol, path);
    if !broken.contains(&asked) {
        broken.push(asked);
    }
    broken.iter().map(|property| property.name()).collect()
}
