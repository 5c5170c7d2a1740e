//! From the command line to what is printed.

use lgtm_core::{Error, ErrorKind, Result};

use crate::arguments::{Arguments, Parsed, help};
use crate::place::Place;
use crate::report::Report;
use crate::{backfill, cardinality, compact, delete, export, import, inspect, ls, query, verify};

/// How a command ended; the exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and nothing is wrong.
    Fine,
    /// Something was found, or it failed.
    Failed,
    /// The command line is wrong.
    Usage,
}

/// What a command has to say.
pub(crate) struct Answer {
    pub(crate) report: Report,
    /// Whether nothing is wrong.
    pub(crate) is_fine: bool,
}

impl From<Report> for Answer {
    fn from(report: Report) -> Self {
        Self {
            report,
            is_fine: true,
        }
    }
}

/// Does what a command line says: how it ended, what goes to standard output, and what to standard error.
pub fn run(arguments: &[String]) -> (Outcome, String, Option<String>) {
    let arguments = match Arguments::parse(arguments) {
        Ok(Parsed::Do(arguments)) => arguments,
        Ok(Parsed::Help) => return (Outcome::Fine, help(), None),
        Err(e) => return (Outcome::Usage, String::new(), Some(e.to_string())),
    };
    match act(&arguments) {
        Ok(answer) => {
            let outcome = match answer.is_fine {
                true => Outcome::Fine,
                false => Outcome::Failed,
            };
            let text = match arguments.is_set("json") {
                true => answer.report.json(),
                false => answer.report.text(),
            };
            (outcome, text, None)
        }
        Err(e) => {
            let outcome = match e.kind() {
                ErrorKind::InvalidInput => Outcome::Usage,
                _ => Outcome::Failed,
            };
            (outcome, String::new(), Some(e.to_string()))
        }
    }
}

fn act(arguments: &Arguments) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::Unavailable(format!("threads of the process: {e}")))?;
    runtime.block_on(async {
        let place = Place::open(arguments).await?;
        match arguments.command.name {
            "ls" => ls::ls(&place).await.map(Answer::from),
            "inspect" => inspect::inspect(&place, arguments).await.map(Answer::from),
            "query" => query::query(&place, arguments).await.map(Answer::from),
            "cardinality" => {
                let told = cardinality::cardinality(&place, arguments).await;
                told.map(Answer::from)
            }
            "export" => export::export(&place, arguments).await.map(Answer::from),
            "import" => import::import(&place, arguments).await,
            "backfill" => backfill::backfill(&place, arguments).await,
            "delete" => delete::delete(&place, arguments).await.map(Answer::from),
            "compact" => compact::compact(&place, arguments).await.map(Answer::from),
            "verify" => verify::verify(&place, arguments).await,
            other => Err(Error::Internal(format!("command {other} does nothing"))),
        }
    })
}
