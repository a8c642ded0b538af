//! Regions from text: `(%s: f32, %x3: f32) -> %s + %x3[i0, i1]`.

use crate::dim::Symbol;
use crate::dtype::DType;
use crate::region::Region;
use crate::text::cursor::{Cursor, Parse};
use crate::text::error::{ParseError, Problem};
use crate::text::parse_expr::{Scope, expr};

/// Parses a text that is one region.
///
/// # Errors
/// Everything that is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Region, Vec<ParseError>> {
    let mut cursor = Cursor::new(text);
    let read = region(&mut cursor);
    let read = read.and_then(|r| if cursor.is_end() { Ok(r) } else { Err(cursor.unexpected("the end")) });
    read.map_err(|error| vec![error])
}

/// Reads a region. Its first name is the number, which is `f32`; the others are arrays.
pub(super) fn region(cursor: &mut Cursor<'_>) -> Parse<Region> {
    cursor.expect("(")?;
    let mut scope = Scope::default();
    let mut first = true;
    cursor.list(")", |cursor| {
        let start = cursor.span();
        let name = Symbol::new(cursor.sigil("%")?);
        cursor.expect(":")?;
        let dtype = cursor.dtype()?;
        match std::mem::take(&mut first) {
            true if name.name() == "s" && dtype == DType::F32 => scope.scalar(name, dtype),
            true => {
                let found = format!("`%{name}: {dtype}`");
                let problem = Problem::Unexpected { expected: "`%s: f32`", found };
                return Err(ParseError { span: cursor.since(start), problem });
            }
            false => scope.array(name, dtype),
        }
        Ok(())
    })?;
    cursor.expect("->")?;
    let body = cursor.deeper(|cursor| expr(cursor, &scope))?;
    Ok(Region::new(body))
}
