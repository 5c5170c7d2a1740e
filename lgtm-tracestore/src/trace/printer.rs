//! Traces printed piece by piece, so that an answer of any size needs little memory beside the trace.

use crate::trace::json::{Members, Spelling};
use crate::trace::{ResourceSpans, ScopeSpans, Span, Trace};

/// What a trace is printed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceForm {
    /// As Tempo's `/api/v2/traces` has it: `{"resourceSpans":[...]}`.
    ResourceSpans,
    /// As OTLP's JSON has it, which receivers take: as `ResourceSpans`, with identifiers in hexadecimal and enums by number.
    Otlp,
    /// As Tempo's `/api/traces` has it: `{"batches":[...]}`.
    Batches,
    /// As language models read it with the fewest tokens: `{"traceId":"..","services":[...]}`, identifiers in hexadecimal, attributes as members.
    Llm,
}

/// A trace being printed.
#[derive(Debug)]
pub struct TracePrinter<'t, 'a> {
    trace: &'t Trace<'a>,
    form: TraceForm,
    resource: usize,
    scope: usize,
    span: usize,
    /// Objects that are open: the trace's, the resource's, the scope's.
    depth: u8,
    is_done: bool,
}

impl<'t, 'a> TracePrinter<'t, 'a> {
    /// Nothing printed yet.
    pub fn new(trace: &'t Trace<'a>, form: TraceForm) -> Self {
        Self {
            trace,
            form,
            resource: 0,
            scope: 0,
            span: 0,
            depth: 0,
            is_done: false,
        }
    }

    /// Prints until `out` has `wanted` bytes or a span more, or the trace ends. Tells whether there is more.
    pub fn push(&mut self, out: &mut String, wanted: usize) -> bool {
        while !self.is_done && out.len() < wanted {
            self.step(out);
        }
        !self.is_done
    }

    fn step(&mut self, out: &mut String) {
        if self.depth == 0 {
            self.open_trace(out);
            self.depth = 1;
        }
        let Some(resource) = self.trace.resources.get(self.resource) else {
            out.push_str(if self.trace.resources.is_empty() {
                "}"
            } else {
                "]}"
            });
            self.is_done = true;
            return;
        };
        if self.depth == 1 {
            comma(out, self.resource);
            self.open_resource(resource, out);
            self.depth = 2;
        }
        let Some(scope) = resource.scopes.get(self.scope) else {
            out.push_str(if resource.scopes.is_empty() {
                "}"
            } else {
                "]}"
            });
            (self.resource, self.scope, self.depth) = (self.resource + 1, 0, 1);
            return;
        };
        if self.depth == 2 {
            comma(out, self.scope);
            self.open_scope(scope, out);
            self.depth = 3;
        }
        let Some(span) = scope.spans.get(self.span) else {
            out.push_str(if scope.spans.is_empty() { "}" } else { "]}" });
            (self.scope, self.span, self.depth) = (self.scope + 1, 0, 2);
            return;
        };
        comma(out, self.span);
        self.print_span(span, out);
        self.span += 1;
    }

    fn open_trace(&self, out: &mut String) {
        let mut members = Members::open(out);
        if self.trace.resources.is_empty() {
            return;
        }
        let list = match self.form {
            TraceForm::ResourceSpans | TraceForm::Otlp => "resourceSpans",
            TraceForm::Batches => "batches",
            TraceForm::Llm => {
                self.trace.push_llm_id(&mut members);
                "services"
            }
        };
        members.name(list).push('[');
    }

    fn open_resource(&self, resource: &ResourceSpans<'_>, out: &mut String) {
        let mut members = Members::open(out);
        let list = match self.form {
            TraceForm::Llm => {
                resource.push_llm(&mut members);
                "scopes"
            }
            TraceForm::ResourceSpans | TraceForm::Otlp | TraceForm::Batches => {
                resource.push_resource_json(members.name("resource"));
                "scopeSpans"
            }
        };
        if !resource.scopes.is_empty() {
            members.name(list).push('[');
        }
    }

    fn open_scope(&self, scope: &ScopeSpans<'_>, out: &mut String) {
        let mut members = Members::open(out);
        match self.form {
            TraceForm::Llm => scope.push_llm(&mut members),
            TraceForm::ResourceSpans | TraceForm::Otlp | TraceForm::Batches => {
                scope.push_scope_json(members.name("scope"));
            }
        }
        if !scope.spans.is_empty() {
            members.name("spans").push('[');
        }
    }

    fn print_span(&self, span: &Span<'_>, out: &mut String) {
        match self.form {
            TraceForm::Llm => span.push_llm(out),
            TraceForm::Otlp => span.push_json(out, Spelling::Otlp),
            TraceForm::ResourceSpans | TraceForm::Batches => span.push_json(out, Spelling::Tempo),
        }
    }
}

fn comma(out: &mut String, n: usize) {
    if n > 0 {
        out.push(',');
    }
}

impl Trace<'_> {
    /// The whole trace as JSON.
    pub fn to_json(&self, form: TraceForm) -> String {
        let mut out = String::new();
        TracePrinter::new(self, form).push(&mut out, usize::MAX);
        out
    }
}
