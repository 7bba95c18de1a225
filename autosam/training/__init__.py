"""The verb fit: losses and the loop. It knows neither evaluation nor inference."""
