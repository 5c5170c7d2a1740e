//! The tool: reads the command line, opens the bucket, does what was asked, prints it.

use std::io::Write;
use std::process::ExitCode;

use lgtm_tool::{Outcome, run};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (outcome, text, complaint) = run(&arguments);
    // A reader that has gone away is no fault of ours.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if let Some(complaint) = complaint {
        let _ = writeln!(std::io::stderr(), "lgtm-tool: {complaint}");
    }
    ExitCode::from(match outcome {
        Outcome::Fine => 0,
        Outcome::Failed => 1,
        Outcome::Usage => 2,
    })
}
