//! Tables as `fly` prints them: upper-case headings, columns separated by `│`, one blank line at the end.

use comfy_table::{ContentArrangement, ContentLineStyle, Table, TableStyle};

/// Writes a table.
pub fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    let line = ContentLineStyle::none().junction('│');
    table.load_style(TableStyle::new().header_lines(line).content_lines(line));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|heading| heading.to_uppercase()));
    table.add_rows(rows);
    let mut text: String = table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    text.push('\n');
    text
}

/// Writes one record vertically, labels right-aligned to twenty characters.
pub fn block(fields: &[(&str, String)]) -> String {
    fields
        .iter()
        .map(|(label, value)| format!("{label:>20}: {value}\n"))
        .collect()
}

/// Writes `1 machine`, `2 machines`.
pub fn counted(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

#[cfg(test)]
mod tests;
