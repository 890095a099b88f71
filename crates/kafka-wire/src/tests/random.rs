//! Random messages as bytes, made from the table of facts and by nothing that is tested.

use rafka_core::rng::{Rng, RngExt as _};

use super::facts::{Api, Field, Kind, Struct};

/// What mostly stands in a message where it is more than anything at all. Empty: it is anything.
#[derive(Debug, Default)]
pub(super) struct Palette {
    pub(super) integers: Vec<i64>,
    pub(super) texts: Vec<String>,
    pub(super) ids: Vec<u128>,
    pub(super) records: Vec<Vec<u8>>,
}

/// The bytes of a random message in the form that a writer has to give it: tags in order, none
/// with its default.
pub(super) fn message(
    (api, name): (&Api, &str),
    version: i16,
    palette: &Palette,
    rng: &mut Rng,
) -> Vec<u8> {
    let shape = Shape { api, version, is_flexible: api.is_flexible(version), palette };
    let mut out = Vec::new();
    shape.fields(find(api, name), &mut Some(rng), &mut out);
    out
}

fn find<'t>(api: &'t Api, name: &str) -> &'t Struct {
    api.find(name).expect("the table names only structs that it has")
}

#[derive(Clone, Copy)]
struct Shape<'t> {
    api: &'t Api,
    version: i16,
    is_flexible: bool,
    palette: &'t Palette,
}

impl Shape<'_> {
    /// A struct; without chance, the one that holds defaults.
    fn fields(self, known: &Struct, rng: &mut Option<&mut Rng>, out: &mut Vec<u8>) {
        let here = known.fields.iter().filter(|field| field.versions.contains(self.version));
        let mut tags = Vec::new();
        for field in here {
            let Some(tag) = field.tag else {
                self.field(field, rng, out);
                continue;
            };
            let (mut value, mut default) = (Vec::new(), Vec::new());
            self.field(field, rng, &mut value);
            self.field(field, &mut None, &mut default);
            if value != default {
                tags.push((tag, value));
            }
        }
        if !self.is_flexible {
            return;
        }
        tags.sort();
        varint(tags.len(), out);
        for (tag, value) in tags {
            varint(usize::try_from(tag).expect("a small number"), out);
            varint(value.len(), out);
            out.extend(value);
        }
    }

    fn field(self, field: &Field, rng: &mut Option<&mut Rng>, out: &mut Vec<u8>) {
        let may_be_null = field.null.is_some_and(|span| span.contains(self.version));
        let is_null = match rng {
            Some(rng) => rng.random_ratio(1, 4),
            None => field.is_null_by_default(),
        };
        if may_be_null && is_null {
            return self.null(field, out);
        }
        if field.is_list {
            let is_small = !matches!(field.kind, Kind::Struct(_));
            let count = rng.as_mut().map_or(0, |rng| {
                // Often enough so many that the count takes two bytes.
                let is_long = is_small && rng.random_ratio(1, 8);
                if is_long { 150 } else { rng.random_range(0..4) }
            });
            self.len(count, 4, out);
            for _ in 0..count {
                self.value(field, rng, out);
            }
            return;
        }
        if may_be_null && matches!(field.kind, Kind::Struct(_)) {
            out.push(1);
        }
        self.value(field, rng, out);
    }

    fn null(self, field: &Field, out: &mut Vec<u8>) {
        let len = match &field.kind {
            Kind::Struct(_) if !field.is_list => return out.push(0xff),
            _ if self.is_flexible => return out.push(0),
            Kind::String if !field.is_list => 2,
            _ => 4,
        };
        out.extend(std::iter::repeat_n(0xff, len));
    }

    fn value(self, field: &Field, rng: &mut Option<&mut Rng>, out: &mut Vec<u8>) {
        match &field.kind {
            Kind::Bool => out.push(u8::from(rng.as_mut().is_some_and(|rng| rng.random()))),
            Kind::Integer(name) => {
                let default = field.default.as_deref().unwrap_or("0").parse().expect("a number");
                let number: i64 = match rng {
                    None => default,
                    Some(rng) => chosen(&self.palette.integers, rng).unwrap_or_else(|| {
                        let extremes = [0, 1, -1, i64::MAX, i64::MIN, default];
                        if rng.random_ratio(1, 3) {
                            extremes[rng.random_range(0..extremes.len())]
                        } else {
                            rng.random()
                        }
                    }),
                };
                let size = match *name {
                    "i8" => 1,
                    "i16" | "u16" => 2,
                    "i32" => 4,
                    _ => 8,
                };
                out.extend(&number.to_be_bytes()[8 - size..]);
            }
            Kind::Uuid => {
                let id = rng.as_mut().map_or(0, |rng| {
                    chosen(&self.palette.ids, rng).unwrap_or_else(|| rng.random())
                });
                out.extend(id.to_be_bytes());
            }
            Kind::String => {
                let text = rng.as_mut().map_or(String::new(), |rng| {
                    chosen(&self.palette.texts, rng).unwrap_or_else(|| text(rng))
                });
                self.len(text.len(), 2, out);
                out.extend(text.bytes());
            }
            Kind::Bytes | Kind::Records => {
                let bytes = rng.as_mut().map_or(Vec::new(), |rng| {
                    chosen(&self.palette.records, rng).unwrap_or_else(|| bytes(rng))
                });
                self.len(bytes.len(), 4, out);
                out.extend(bytes);
            }
            Kind::Struct(name) => self.fields(find(self.api, name), rng, out),
        }
    }

    fn len(self, len: usize, plain_size: usize, out: &mut Vec<u8>) {
        if self.is_flexible {
            return varint(len + 1, out);
        }
        out.extend(&len.to_be_bytes()[size_of::<usize>() - plain_size..]);
    }
}

/// One of the palette, but for now and then, or if there is none.
fn chosen<T: Clone>(palette: &[T], rng: &mut Rng) -> Option<T> {
    if palette.is_empty() || rng.random_ratio(1, 20) {
        return None;
    }
    palette.get(rng.random_range(0..palette.len())).cloned()
}

fn text(rng: &mut Rng) -> String {
    let len = if rng.random_ratio(1, 8) { 130 } else { rng.random_range(0..12) };
    (0..len)
        .map(|_| ['a', 'Z', '0', '.', '\0', '\u{e9}', '\u{1f980}'][rng.random_range(0..7)])
        .collect()
}

/// Sometimes long enough to be spliced into a frame.
fn bytes(rng: &mut Rng) -> Vec<u8> {
    let len = if rng.random_ratio(1, 8) { 20_000 } else { rng.random_range(0..1000) };
    (0..len).map(|_| rng.random()).collect()
}

fn varint(mut value: usize, out: &mut Vec<u8>) {
    while 0x7f < value {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}
