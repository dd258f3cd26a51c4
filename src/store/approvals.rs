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
    answer TEXT, answered INTEGER, answered_by TEXT, longest TEXT NOT NULL DEFAULT 'once', PRIMARY KEY (session, question)
) STRICT, WITHOUT ROWID;
";
/// What lists lack that were made before it was kept, and what gives it to them.
const HAS_LONGEST: &str = "SELECT count(*) FROM pragma_table_info('approvals') WHERE name = 'longest'";
const ADD_LONGEST: &str = "ALTER TABLE approvals ADD COLUMN longest TEXT NOT NULL DEFAULT 'once'";

/// For how long a person's yes to a question can count: what is less than that can be said as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Longest {
    /// For what was asked alone.
    Once,
    /// For the rest of the session.
    Session,
    /// In later sessions, too.
    Always,
}

impl Longest {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Once, Self::Session, Self::Always];

    /// What it is called, as the flag of `omni approve` is.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Session => "session",
            Self::Always => "always",
        }
    }
}

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
    /// For how long a yes can count.
    pub longest: Longest,
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
        approvals.prepare().map_err(approvals.failed("write to"))?;
        Ok(approvals)
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch(TABLES)?;
        let has = || self.connection.query_row(HAS_LONGEST, [], |row| row.get::<_, bool>(0));
        if has()? {
            return Ok(());
        }
        match self.connection.execute_batch(ADD_LONGEST) {
            // Another process did it a moment ago.
            Err(_) if has()? => Ok(()),
            done => done,
        }
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
        let Approval { session, question, user, asked, expires, what, why, rule, preview, digest, cost, longest } =
            approval;
        let text = "INSERT OR REPLACE INTO approvals (session, question, user, pid, pid_started_ticks, asked, expires, \
                    what, why, rule, preview, digest, cost_nano, longest) \
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
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
            cost.0,
            longest.word()
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
                    digest, cost_nano, longest FROM approvals WHERE answer IS NULL AND (?1 IS NULL OR user = ?1) \
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
                longest: longest(&row.get::<_, String>(13)?),
            };
            Ok((row.get(1)?, row.get::<_, i64>(2)?.cast_unsigned(), approval))
        })?;
        rows.collect()
    }
}

/// What a word names; what is not known counts no longer than it must.
fn longest(word: &str) -> Longest {
    Longest::ALL.into_iter().find(|longest| longest.word() == word).unwrap_or(Longest::Once)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_yes_can_count_is_kept_and_lists_of_before_get_to_know_of_it() {
        let place = tempfile::tempdir().unwrap();
        let home = Home::open(&place.path().join("home")).unwrap();
        let older = TABLES.replace(", longest TEXT NOT NULL DEFAULT 'once'", "");
        assert_ne!(older, TABLES);
        schema::open(&home).unwrap().execute_batch(&older).unwrap();
        let list = Approvals::open(&home).unwrap();
        let asked = Approval {
            session: SessionId::from_entropy([1; 10]),
            question: 1,
            user: "ada".to_owned(),
            asked: Timestamp(1),
            expires: Timestamp(2),
            what: "POST https://a.example/x".to_owned(),
            why: "a rule asks".to_owned(),
            rule: None,
            preview: String::new(),
            digest: "00".to_owned(),
            cost: NanoUsd(3),
            longest: Longest::Session,
        };
        for (question, longest) in (1..).zip(Longest::ALL) {
            list.ask(&Approval { question, longest, ..asked.clone() }).unwrap();
        }
        let found: Vec<_> = Approvals::open(&home).unwrap().pending(None).unwrap();
        assert_eq!(found.iter().map(|approval| approval.longest).collect::<Vec<_>>(), Longest::ALL);
        assert_eq!(found[1], Approval { question: 2, ..asked });
    }
}
