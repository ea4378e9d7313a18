"""Names and files to models: published weights are downloaded, verified, converted and cached."""
