//! Models of papers about mixtures of experts. One file is one family; equations have the tags of the formula sheet.
//!
//! `B` batch, `S` tokens of a text, `D` width, `H` width of experts, `E` experts, `K` chosen of them. The layer of experts
//! is in `net`, gates (G1), (G2) and capacity (G4) included; what models have in common besides is `layer` (a router with
//! its experts), `step` (how their result enters the residual stream) and `language` (the language model around them).

pub mod acmoe;
pub mod camex;
pub mod deepseek;
pub mod glam;
mod language;
mod layer;
mod merging;
pub mod molex;
pub mod momentum;
pub mod multi_head;
pub mod sigma;
pub mod smoe;
mod step;
pub mod vmoe;
