//! Questions that sessions put to people, and their answers, for whoever looks from elsewhere. A session decides by itself
//! which answer was the first; this is where it can be read.

use super::{Home, StoreError, process_start_ticks, query, schema};
use crate::model::{NanoUsd, SessionId, Timestamp};
use rusqlite::{Connection, params};

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS approvals (
    session TEXT NOT NULL, question INTEGER NOT NULL, user TEXT NOT NULL, pid INTEGER NOT NULL,
    pid_started_ticks INTEGER NOT NULL, asked INTEGER NOT NULL, expires INTEGER NOT NULL, what TEXT NOT NULL,
    why TEXT NOT NULL, rule TEXT, preview TEXT NOT NULL, digest TEXT NOT NULL, cost_nano INTEGER NOT NULL,
    answer TEXT, answered INTEGER, answered_by TEXT, PRIMARY KEY (session, question)
) STRICT, WITHOUT ROWID;
";

/// A question as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The session that asks.
    pub session: SessionId,
    /// Its number within the session, from 1.
    pub question: u64,
    /// The user on whose behalf the session runs.
    pub user: String,
    /// When it was asked.
    pub asked: Timestamp,
    /// When it is denied for want of an answer.
    pub expires: Timestamp,
    /// What is to be done, as method and URL.
    pub what: String,
    /// Why somebody must say.
    pub why: String,
    /// The rule that asks.
    pub rule: Option<String>,
    /// The beginning of what is to be sent.
    pub preview: String,
    /// SHA-256 of what is to be sent, in hexadecimal.
    pub digest: String,
    /// What the session cost by then.
    pub cost: NanoUsd,
}

impl Approval {
    /// What a person names it by.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{}", self.session, self.question)
    }
}

/// The list of questions.
#[derive(Debug)]
pub struct Approvals {
    home: Home,
    connection: Connection,
}

impl Approvals {
    /// Opens the list.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn open(home: &Home) -> Result<Self, StoreError> {
        let approvals = Self { home: home.clone(), connection: schema::open(home)? };
        approvals.connection.execute_batch(TABLES).map_err(approvals.failed("write to"))?;
        Ok(approvals)
    }

    fn failed(&self, step: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let path = self.home.database();
        move |error| StoreError::database(&path, step, error)
    }

    /// Enters a question of this process's.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn ask(&self, approval: &Approval) -> Result<(), StoreError> {
        let pid = std::process::id();
        let ticks = process_start_ticks(pid).unwrap_or_default().cast_signed();
        let Approval { session, question, user, asked, expires, what, why, rule, preview, digest, cost } = approval;
        let text = "INSERT OR REPLACE INTO approvals (session, question, user, pid, pid_started_ticks, asked, expires, \
                    what, why, rule, preview, digest, cost_nano) \
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
        let row = params![
            session.as_str(),
            question.cast_signed(),
            user,
            pid,
            ticks,
            asked.0,
            expires.0,
            what,
            why,
            rule,
            preview,
            digest,
            cost.0
        ];
        self.connection
            .prepare_cached(text)
            .and_then(|mut it| it.execute(row))
            .map(drop)
            .map_err(self.failed("write to"))
    }

    /// Enters what became of one; what was entered first stays.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn answer(
        &self,
        session: &SessionId,
        question: u64,
        answer: &str,
        by: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let text = "UPDATE approvals SET answer = ?3, answered_by = ?4, answered = ?5 \
                    WHERE session = ?1 AND question = ?2 AND answer IS NULL";
        let row = params![session.as_str(), question.cast_signed(), answer, by, at.0];
        self.connection.execute(text, row).map(drop).map_err(self.failed("write to"))
    }

    /// The questions that wait for an answer, the oldest first: of everybody, or of one user's sessions. Those of a process
    /// that is gone wait for nothing.
    ///
    /// # Errors
    /// A [`StoreError`] of the database.
    pub fn pending(&self, user: Option<&str>) -> Result<Vec<Approval>, StoreError> {
        let found = self.rows(user).map_err(self.failed("read"))?;
        let lives = |(pid, ticks, approval): (u32, u64, Approval)| {
            (process_start_ticks(pid) == Some(ticks)).then_some(approval)
        };
        Ok(found.into_iter().filter_map(lives).collect())
    }

    fn rows(&self, user: Option<&str>) -> rusqlite::Result<Vec<(u32, u64, Approval)>> {
        let text = "SELECT session, pid, pid_started_ticks, question, user, asked, expires, what, why, rule, preview, \
                    digest, cost_nano FROM approvals WHERE answer IS NULL AND (?1 IS NULL OR user = ?1) \
                    ORDER BY asked, session, question";
        let mut statement = self.connection.prepare(text)?;
        let rows = statement.query_map([user], |row| {
            let approval = Approval {
                session: query::id(row, 0)?,
                question: row.get::<_, i64>(3)?.cast_unsigned(),
                user: row.get(4)?,
                asked: Timestamp(row.get(5)?),
                expires: Timestamp(row.get(6)?),
                what: row.get(7)?,
                why: row.get(8)?,
                rule: row.get(9)?,
                preview: row.get(10)?,
                digest: row.get(11)?,
                cost: NanoUsd(row.get(12)?),
            };
            Ok((row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned(), approval))
        })?;
        rows.collect()
    }
}
