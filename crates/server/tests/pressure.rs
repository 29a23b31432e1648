//! Owns the proof that pressure stays where it arises: a slow destination, a large backlog, forged posts, a source that
//! floods, connections without end, much that is old (SPEC I2, I6, I7, I10, P5, P7, O14). The real binary is under
//! load from outside; figures are compared within one run, as the machine is never quiet.

mod support;

#[path = "pressure/applications.rs"]
mod applications;
#[path = "pressure/backlog.rs"]
mod backlog;
#[path = "pressure/connections.rs"]
mod connections;
#[path = "pressure/fairness.rs"]
mod fairness;
#[path = "pressure/floods.rs"]
mod floods;
#[path = "pressure/neighbours.rs"]
mod neighbours;
#[path = "pressure/retention.rs"]
mod retention;
