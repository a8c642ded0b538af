//! What a pass is.

use ir::program::Program;
use ir::{At, DType, Graph};

use crate::egraph::rules::{self, Rule};
use crate::error::PassError;
use crate::target::Target;

/// A pass's name and what it does, in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its name: file, flag, dump and test folder are called the same.
    pub name: &'static str,
    /// What it does.
    pub summary: &'static str,
}

impl About {
    /// A name and a line.
    pub const fn new(name: &'static str, summary: &'static str) -> About {
        About { name, summary }
    }
}

/// Did a pass change anything?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed(pub bool);

/// Which rewrites of floating-point arithmetic are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FpMode {
    /// Only those that keep every bit.
    Strict,
    /// Sums and products may be regrouped, a quotient is a product with the reciprocal, and floats of 16 bits are `f32` between
    /// ops.
    #[default]
    Reassoc,
    /// Also those that lose some accuracy, within the model's tolerance.
    Fast,
}

/// What passes may know besides the graph: the options of a compilation.
#[derive(Debug, Clone, Default)]
pub struct Cx {
    /// What is compiled for.
    pub target: Target,
    /// Which floating-point rewrites are allowed.
    pub fp: FpMode,
    /// Rules that must not be applied.
    pub disabled_rules: Vec<String>,
    /// The type in which weights of products are stored that are floats of 32 bits, if that is another.
    pub weights: Option<DType>,
    /// Rules besides [all](crate::egraph::rules::all): a test plants a wrong one here.
    #[doc(hidden)]
    pub extra_rules: &'static [Rule],
}

impl Cx {
    /// May the rule be applied?
    pub fn allows(&self, rule: &Rule) -> bool {
        rule.exactness.allowed(self.fp) && !self.disabled_rules.iter().any(|name| name == rule.name)
    }

    /// Every rule there is, allowed or not, in the order in which they are tried.
    pub fn rules(&self) -> impl Iterator<Item = &'static Rule> + use<> {
        rules::all().chain(self.extra_rules)
    }
}

/// A pass from graphs to better graphs.
pub trait GraphPass: Sync {
    /// Its name and what it does.
    fn about(&self) -> About;

    /// Changes the graph.
    ///
    /// # Errors
    /// A node that the pass cannot go on with.
    fn run(&self, graph: &mut Graph, cx: &Cx) -> Result<Changed, At<PassError>>;
}

/// The pass from a graph to a program.
pub trait LowerPass: Sync {
    /// Its name and what it does.
    fn about(&self) -> About;

    /// Makes the program.
    ///
    /// # Errors
    /// Every node that has no form as kernels.
    fn run(&self, graph: &Graph, cx: &Cx) -> Result<Program, Vec<At<PassError>>>;
}

/// A pass from programs to better programs.
pub trait ProgramPass: Sync {
    /// Its name and what it does.
    fn about(&self) -> About;

    /// Changes the program.
    ///
    /// # Errors
    /// A kernel that the pass cannot go on with.
    fn run(&self, program: &mut Program, cx: &Cx) -> Result<Changed, At<PassError>>;
}
