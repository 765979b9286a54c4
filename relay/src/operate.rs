//! What only operators need: backups, looking at a file, comparing, deciding between two histories, quarantined events.

mod backup;
mod decide;
mod quarantine;
mod read_only;
mod verify;

pub use backup::{BackupError, Manifest, Restored, backup, check_backup, restore};
pub use decide::{DecisionError, Plan, adopt_stream, new_epoch, plan_adoption, plan_new_epoch};
pub use quarantine::Quarantined;
pub use read_only::{Audited, Offset, ReadOnly, Report};
pub use verify::{Verified, verify_cache, verify_stream};
