//! Use that is unusual: a score of 0 to 100 for each AI call before its credits are held, and what
//! follows from a high one.
//!
//! **Compared** is the person's last hour, this call included, with the person's own 56 days and
//! with those of all people of the tenant; what is usual for either is usual. The last hour begins
//! anew after a block. Baselines are counted each night ([`baseline`]).
//!
//! **Four signals**, each 0 to its weight (`src/anomaly/score.rs`):
//!
//! - `FREQUENCY`, 0.80: z of the runs in the hour; 0 up to z = 3, its weight from z = 15 on;
//! - `VOLUME`, 0.70: the same of credits;
//! - `HOUR_OF_WEEK`, 0.50 · (1 − 2 r), where r is how often the hour of the week is used, as a
//!   multiple of an even week; 0 from r = ½ on;
//! - `REPEATED_PROMPT`, 0.85: runs of the same prompt but for numbers, marks and case; 0 up to 5
//!   runs, its weight from 30 on.
//!
//! z = (x − median) ÷ max(1.4826 · MAD, median ÷ 4, 4 runs), over the hours in which there was any
//! use; for credits 4 runs stand for 4 times the median hour's credits per run. r = 168 (c + 1) ÷
//! (n + 168), where c is the hour's own runs, half of its two neighbours' and half of itself, as
//! (c₋₁ + 2 c₀ + c₊₁) ÷ 4, and n all runs. The signals are combined by noisy-or: score = 100 ·
//! (1 − Π (1 − signal)), rounded. Fewer than 20 runs in the 56 days and the last hour together are
//! too few to judge by: the score is 40 at most.
//!
//! **What follows**: from 70 on a security event WARNING; from 90 on CRITICAL, and the person's
//! calls are refused as `SUSPICIOUS_ACTIVITY` for 30 minutes (the tenant's setting). An ADMIN can
//! lift that. In shadow mode everything is recorded and nobody is refused.
//!
//! **Worked examples**, for somebody who usually runs 2 calls of 3 credits in an hour (median 2,
//! MAD 0; 6 credits, MAD 0), each day from 9 to 21 o'clock, 1 344 runs in 56 days:
//!
//! - *A burst*, 62 calls within an hour: z = (62 − 2) ÷ 4 = 15, frequency 0.80; credits z =
//!   (186 − 6) ÷ 12 = 15, volume 0.70; score 100 (1 − 0.2 · 0.3) = 94: blocked.
//! - *A run at night*, 1 call at 3 o'clock: r = 168 ÷ 1 512 = 0.111, hour of week 0.389; score 39.
//!   With 34 calls in that hour: z = 8, frequency 0.333 and volume 0.292; score 100 (1 − 0.611 ·
//!   0.667 · 0.708) = 71: a warning.
//! - *Three times the volume*, for somebody with 20 calls and 60 credits an hour (MAD 3 and 10): 60
//!   calls, 180 credits: z = 40 ÷ 5 = 8, frequency 0.333; z = 120 ÷ 15 = 8, volume 0.292; score 53.

pub mod baseline;
pub mod block;
pub mod error;
pub mod graphql;
pub mod score;
pub mod watch;
