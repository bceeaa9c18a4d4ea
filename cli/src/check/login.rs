//! Who the user is, and what a stream needs that the user may not do.

use bson::{Bson, Document, doc};

use crate::ask::{Asked, Refusal};
use crate::check::finding::{Finding, Level};
use crate::check::wishes::{Watched, Wishes};

/// What the server tells of the user, or why it tells nothing.
pub(crate) fn check(deployment: &Asked, watched: &Watched, wishes: &Wishes) -> Vec<Finding> {
    let status =
        deployment.command("admin", doc! { "connectionStatus": 1, "showPrivileges": true });
    let status = match status {
        Ok(status) => status,
        Err(refusal) => return vec![refused(&refusal)],
    };
    let Ok(info) = status.get_document("authInfo") else { return Vec::new() };
    let users = documents(info, "authenticatedUsers").map(|user| {
        let text = |key| user.get_str(key).unwrap_or_default();
        format!("{}@{}", text("user"), text("db"))
    });
    let users = Vec::from_iter(users).join(", ");
    if users.is_empty() {
        return vec![nobody(deployment)];
    }
    let privileges: Vec<&Document> = documents(info, "authenticatedUserPrivileges").collect();
    let mut findings = vec![Finding::ok("login", format!("as {users}"))];
    findings.push(missing(&privileges, &users, watched));
    findings.extend(checkpoint(&privileges, &users, wishes));
    findings
}

fn documents<'a>(document: &'a Document, key: &str) -> impl Iterator<Item = &'a Document> {
    document.get_array(key).into_iter().flatten().filter_map(Bson::as_document)
}

fn refused(refusal: &Refusal) -> Finding {
    if refusal.is_login {
        return Finding::new(
            Level::Problem,
            ("login", "refused"),
            format!("the server refuses the user: {}", refusal.text),
            "check user and password, with the characters : / ? # [ ] @ % percent-encoded, and authSource: the \
             database in which the user was made, usually admin",
        );
    }
    Finding::new(
        Level::Problem,
        ("login", "no_answer"),
        format!("there is no connection as the URI says: {}", refusal.text),
        "check the URI's options, such as replicaSet, readPreference and tls",
    )
}

/// Nobody is logged in: does the server mind?
fn nobody(deployment: &Asked) -> Finding {
    let asked = doc! { "listDatabases": 1, "nameOnly": true, "filter": { "name": "admin" } };
    match deployment.command("admin", asked) {
        Err(refusal) if refusal.is_unauthorized() => Finding::new(
            Level::Problem,
            ("login", "wanted"),
            "the server wants a login, and the URI has none",
            "write it into the URI: mongodb://USER:PASSWORD@host/?authSource=admin",
        ),
        _ => Finding::ok("login", "none, and the server wants none"),
    }
}

/// What privileges are given for.
#[derive(Clone, Copy)]
struct Resource<'a> {
    /// Empty for all.
    database: &'a str,
    /// Empty for all.
    collection: &'a str,
}

impl Resource<'_> {
    /// Whether a privilege that is given for the other one covers this one (MongoDB manual, "Resource Document").
    fn is_in(self, granted: &Document) -> bool {
        if granted.get_bool("anyResource").is_ok_and(|any| any) {
            return true;
        }
        let text = |key| granted.get_str(key);
        let (Ok(database), Ok(collection)) = (text("db"), text("collection")) else { return false };
        let covers = |granted: &str, ours: &str| granted.is_empty() || granted == ours;
        covers(database, self.database) && covers(collection, self.collection)
    }
}

/// Those of the actions that nothing allows.
fn not_allowed<'a>(
    privileges: &[&Document],
    resource: Resource<'_>,
    actions: &[&'a str],
) -> Vec<&'a str> {
    let allows = |privilege: &&Document, action: &str| {
        let granted = privilege.get_document("resource");
        granted.is_ok_and(|granted| resource.is_in(granted))
            && privilege
                .get_array("actions")
                .is_ok_and(|actions| actions.iter().any(|one| one.as_str() == Some(action)))
    };
    let is_missing = |action: &&str| !privileges.iter().any(|privilege| allows(privilege, action));
    actions.iter().copied().filter(is_missing).collect()
}

fn missing(privileges: &[&Document], users: &str, watched: &Watched) -> Finding {
    let resource = match watched {
        Watched::Collection(database, collection) => Resource { database, collection },
        Watched::Database(database, _) => Resource { database, collection: "" },
        Watched::Deployment => Resource { database: "", collection: "" },
    };
    let missing = not_allowed(privileges, resource, &["find", "changeStream"]);
    if missing.is_empty() {
        return Finding::ok("privileges", format!("find and changeStream on {watched}"));
    }
    let Resource { database, collection } = resource;
    let role = match watched {
        Watched::Deployment => "{ role: \"readAnyDatabase\", db: \"admin\" }".to_owned(),
        _ => format!("{{ role: \"read\", db: {database:?} }}"),
    };
    Finding::new(
        Level::Problem,
        ("privileges", "missing"),
        format!("{users} may not: {} on {watched}", missing.join(" and ")),
        format!(
            "give the user the role {role}, or one with only {{ resource: {{ db: {database:?}, collection: \
             {collection:?} }}, actions: [\"find\", \"changeStream\"] }}"
        ),
    )
}

fn checkpoint(privileges: &[&Document], users: &str, wishes: &Wishes) -> Option<Finding> {
    // Elsewhere the user is another one.
    if wishes.value("checkpoint_uri").is_some() {
        return None;
    }
    let namespace = wishes.value("checkpoint_collection")?;
    let (database, collection) = namespace.split_once('.')?;
    let actions = ["find", "insert", "update"];
    let missing = not_allowed(privileges, Resource { database, collection }, &actions);
    Some(match missing.is_empty() {
        true => Finding::ok("checkpoint", format!("find, insert and update on {namespace}")),
        false => Finding::new(
            Level::Problem,
            ("checkpoint", "missing"),
            format!("{users} may not: {} on the collection {namespace}", missing.join(", ")),
            format!("give the user the role {{ role: \"readWrite\", db: {database:?} }}"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privilege_covers_what_it_names_and_what_is_in_it() {
        let (orders, shop) = (("shop", "orders"), ("shop", ""));
        let all = ("", "");
        let granted = [
            (doc! { "db": "shop", "collection": "orders" }, vec![orders]),
            (doc! { "db": "shop", "collection": "" }, vec![orders, shop]),
            (doc! { "db": "", "collection": "" }, vec![orders, shop, all]),
            (doc! { "db": "", "collection": "orders" }, vec![orders]),
            (doc! { "anyResource": true }, vec![orders, shop, all]),
            (doc! { "cluster": true }, vec![]),
            (doc! { "db": "sho", "collection": "" }, vec![]),
        ];
        for (granted, covered) in granted {
            for (database, collection) in [orders, shop, all] {
                let is_covered = Resource { database, collection }.is_in(&granted);
                assert_eq!(
                    is_covered,
                    covered.contains(&(database, collection)),
                    "{granted} {database}.{collection}"
                );
            }
        }
    }
}
